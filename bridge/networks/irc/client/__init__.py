"""One login's client: how it signs in, what it is called, whether it is there."""
