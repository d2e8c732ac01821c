"""The command line: ``trestle``."""

from bridge.cli import backup, database, look, parked, start
from bridge.cli.group import main

__all__ = ["backup", "database", "look", "main", "parked", "start"]
