"""The command line: ``trestle``."""

from bridge.cli import look, parked, start, status, trace
from bridge.cli.group import main

__all__ = ["look", "main", "parked", "start", "status", "trace"]
