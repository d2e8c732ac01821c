"""The command line: ``trestle``."""

from bridge.cli import (
    backup,
    completion,
    config,
    database,
    importing,
    keys,
    look,
    parked,
    prove,
    start,
    status,
    trace,
)
from bridge.cli.group import main

__all__ = [
    "backup", "completion", "config", "database", "importing", "keys", "look", "main", "parked",
    "prove", "start", "status", "trace",
]  # fmt: skip
