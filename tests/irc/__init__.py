"""The IRC bridge, pure parts and against real servers."""
