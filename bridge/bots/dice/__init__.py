"""A bot that rolls dice: what a bot module looks like."""
