"""What people open in a browser: the manager on one origin, what is public on another."""
