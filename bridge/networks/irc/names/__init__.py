"""Names that a network takes: nicks, user names, addresses, targets, masks."""
