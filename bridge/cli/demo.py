"""Trying it out: ``demo``."""

import click

from bridge.cli.group import main, run_until_told
from bridge.demo import stage


@main.command(short_help="Try it out: a bridged room on this machine.")
@click.option("--check", is_flag=True, help="Run the conversation, say how it went, and end.")
def demo(check: bool) -> None:
    """Run a homeserver, an IRC server and Trestle on this machine, and bridge a room."""
    code = run_until_told(lambda: stage.play(check=check))
    # Ctrl-C is how the demo is meant to end; a check that was cut short has shown nothing.
    raise click.exceptions.Exit(int(check) if code is None else code)
