"""Running an installation: ``run``."""

import contextlib
import logging
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import click

from bridge.app import run as run_app
from bridge.cli.group import CONFIG, exit_code, main, run_until_told
from bridge.config import load
from bridge.logs import is_on_screen
from bridge.running.reload import open_log
from bridge.sdk.errors import TrestleError

log = logging.getLogger(__name__)

_FILES = 65536
"""As many as our systemd unit allows."""


@main.command()
@CONFIG
def run(config: Path) -> None:
    """Run until stopped by Ctrl-C or SIGTERM."""
    config = config.absolute()
    settings = load(config)
    open_log(settings).use()
    _open_many()
    # It reloads once there is something to reload; until then, and while we stop, it is nothing.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with telling_why():
            run_until_told(
                lambda: run_app(settings, end_for_sure=True, read_again=lambda: load(config))
            )
    finally:
        signal.signal(signal.SIGHUP, before)


def _open_many() -> None:
    """Have as many files open as the machine lets us: each person has a connection.

    A shell's own limit, 1024 as a rule, is one that the program may raise.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # Some systems have a lower one besides.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def telling_why() -> Iterator[None]:
    """Have the log say why the program ends, like any of its lines, and end with the exit code.

    On standard error it is said too, if the log is elsewhere.
    """
    try:
        yield
    except TrestleError as error:
        code, said = exit_code(error), str(error)
        log.critical("%s", said, extra={"event": "ended"})
    except Exception as error:
        # Its text may hold what somebody said; the log has its class and its places.
        code, said = 1, f"ended by an error of its own: {type(error).__name__}"
        if isinstance(error, OSError) and error.strerror:
            said = f"ended by an error of the machine: {error.strerror}"
        log.critical("%s", said, exc_info=error, extra={"event": "ended"})
    else:
        return
    if not is_on_screen():
        click.echo(f"trestle: {said}", err=True)
    raise click.exceptions.Exit(code)
