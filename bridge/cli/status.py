"""How the running Trestle is: ``trestle status``."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bridge.cli.asking import NOT_RUNNING
from bridge.cli.group import CONFIG, JSON, finished, main, place_of, run_until_told, shows
from bridge.core.oversight.statuslines import in_lines
from bridge.doors.control import ask
from bridge.sdk.errors import TrestleError

_EVERY = 1.0


@main.command()
@click.option("--watch", is_flag=True, help="Refresh it every second, until Ctrl-C.")
@CONFIG
@JSON
@shows
def status(watch: bool, config: Path, as_json: bool) -> None:
    """Show how the running Trestle is doing, on one screen."""
    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together: leave one of them out")
    state_dir = place_of(config)

    async def look() -> Any:
        found = await ask(state_dir, "GET", "/status")
        if found is None:
            raise TrestleError(NOT_RUNNING)
        return found

    async def words() -> str:
        try:
            return "\n".join(in_lines(await look()))
        except TrestleError as error:
            return str(error)

    async def keep_looking() -> None:
        console = Console()
        if not console.is_terminal or console.is_dumb_terminal:
            while True:  # Nothing can be written over: so one stands below the other.
                click.echo(f"{await words()}\n")
                await asyncio.sleep(_EVERY)
        with Live(console=console, auto_refresh=False, screen=True) as screen:
            while True:
                screen.update(Text(await words()), refresh=True)
                await asyncio.sleep(_EVERY)

    if watch:
        run_until_told(keep_looking)
        return
    found = finished(run_until_told(look))
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(in_lines(found)))
