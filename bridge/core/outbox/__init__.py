"""From the outbox into Matrix: one lane a room, and what came of each entry."""
