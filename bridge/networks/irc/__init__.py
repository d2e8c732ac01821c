"""IRC: one connection per Matrix user (puppets), or one that speaks for all (relay)."""
