"""Writes everything that this package makes; a test fails when the repository's differs."""

from pathlib import Path

from bridge import __version__
from bridge.cli import main
from bridge.manual.alerts import alerts_file
from bridge.manual.board import board_file
from bridge.manual.commands import commands_page, manual_page
from bridge.manual.events import log_events_page
from bridge.manual.metrics import metrics_page


def write_manual(folder: Path) -> None:
    """Write all of it into the folder of the repository."""
    for name, text in made().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def made() -> dict[str, str]:
    """Each file's path in the repository, and its text."""
    return {
        "docs/reference/cli.md": commands_page(main),
        "docs/reference/log-events.md": log_events_page(),
        "docs/reference/metrics.md": metrics_page(),
        "deploy/prometheus/alerts.yml": alerts_file(),
        "deploy/grafana/trestle.json": board_file(),
        "deploy/man/trestle.1": manual_page(main, __version__),
    }
