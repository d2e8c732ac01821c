"""The channels: our ways into them, who is there, what they are, bans and ranks."""
