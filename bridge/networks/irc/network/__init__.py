"""What all clients of one instance share: limits, nicks, keys, bans, what servers tell."""
