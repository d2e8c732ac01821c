"""The command line: ``trestle``."""

from bridge.cli import config, look, parked, start
from bridge.cli.group import main

__all__ = ["config", "look", "main", "parked", "start"]
