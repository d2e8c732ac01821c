"""Our own doors into the running program: for the command line, and for monitoring."""
