"""The command line: ``trestle``."""

from bridge.cli.group import main

__all__ = ["main"]
