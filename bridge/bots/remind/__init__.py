"""A bot that reminds people: what a bot with timers looks like."""
