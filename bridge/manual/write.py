"""Writes everything that this package makes; a test fails when the repository's differs."""

from pathlib import Path

from bridge import __version__
from bridge.cli import main
from bridge.manual.alerts import alerts_file
from bridge.manual.board import board_file
from bridge.manual.commands import commands_page, manual_page
from bridge.manual.datapage import data_map_page
from bridge.manual.events import log_events_page
from bridge.manual.examples import config_example, registration_example
from bridge.manual.metrics import metrics_page
from bridge.manual.modulespage import modules_page
from bridge.manual.permissionspage import permissions_page
from bridge.manual.settingspage import config_page


def write_manual(folder: Path) -> None:
    """Write all of it into the folder of the repository."""
    for name, text in made().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def made() -> dict[str, str]:
    """Each file's path in the repository, and its text."""
    example = config_example()
    return {
        "config.example.yaml": example,
        # What a later version compares an admin's settings with.
        f"bridge/shipped/{__version__}.yaml": example,
        "registration.yaml.example": registration_example(),
        "docs/reference/config.md": config_page(),
        "docs/reference/modules.md": modules_page(),
        "docs/reference/permissions.md": permissions_page(),
        "docs/reference/data-map.md": data_map_page(),
        "docs/reference/cli.md": commands_page(main),
        "docs/reference/log-events.md": log_events_page(),
        "docs/reference/metrics.md": metrics_page(),
        "deploy/prometheus/alerts.yml": alerts_file(),
        "deploy/grafana/trestle.json": board_file(),
        "deploy/man/trestle.1": manual_page(main, __version__),
    }
