"""The command line: ``trestle``."""

from bridge.cli import completion, look, parked, start
from bridge.cli.group import main

__all__ = ["completion", "look", "main", "parked", "start"]
