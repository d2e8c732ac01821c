"""The command line: ``trestle``."""

from bridge.cli import look, parked, prove, start
from bridge.cli.group import main

__all__ = ["look", "main", "parked", "prove", "start"]
