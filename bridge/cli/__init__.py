"""The command line: ``trestle``."""

from bridge.cli import keys, look, parked, start
from bridge.cli.group import main

__all__ = ["keys", "look", "main", "parked", "start"]
