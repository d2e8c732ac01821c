"""Running an installation: ``run``."""

import signal
from pathlib import Path

from bridge.app import run as run_app
from bridge.cli.group import CONFIG, main, run_until_told
from bridge.config import load
from bridge.reload import use_log_settings


@main.command()
@CONFIG
def run(config: Path) -> None:
    """Run until stopped by Ctrl-C or SIGTERM."""
    config = config.absolute()
    settings = load(config)
    use_log_settings(settings)
    # It reloads once there is something to reload; until then, and while we stop, it is nothing.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run_until_told(lambda: run_app(settings, end_for_sure=True, read_again=lambda: load(config)))
