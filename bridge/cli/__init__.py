"""The command line: ``trestle``."""

from bridge.cli import backup, database, keys, look, parked, start, status, trace
from bridge.cli.group import main

__all__ = ["backup", "database", "keys", "look", "main", "parked", "start", "status", "trace"]
