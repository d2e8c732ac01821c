"""The command line: ``trestle``."""

from bridge.cli import keys, look, parked, start, status, trace
from bridge.cli.group import main

__all__ = ["keys", "look", "main", "parked", "start", "status", "trace"]
