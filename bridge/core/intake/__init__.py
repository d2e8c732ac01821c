"""What comes from the homeserver: told apart, landed in the journal, led to its lanes."""
