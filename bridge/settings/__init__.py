"""What config.yaml may say: as typed records, and how it is read, checked and changed."""
