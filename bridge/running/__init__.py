"""The running program: its parts built, started, reloaded and ended."""
