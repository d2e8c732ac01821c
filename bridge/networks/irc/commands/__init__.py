"""The commands that people give an IRC network, and long answers made short."""
