"""What waits for its room in Matrix: ``trestle waiting``."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from bridge.cli.group import CONFIG, JSON, finished, main, place_of, run_until_told
from bridge.doors.control import ask
from bridge.sdk.errors import TrestleError


@main.group()
def waiting() -> None:
    """What is not in Matrix yet: see why, put it aside."""


@waiting.command("list")
@CONFIG
@JSON
def list_waiting(config: Path, as_json: bool) -> None:
    """List the rooms for which something waits.

    The one that waits longest comes first. Trestle must be running.
    """
    rows = _ask(config, "GET", "/waiting")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        since = row["since"][:19].replace("T", " ")
        because = f": {row['because']}" if row["because"] else ""
        click.echo(f"{row['room']}  {row['waiting']} waiting  since {since}{because}")
    if not rows:
        click.echo("Nothing waits.")


@waiting.command("park")
@click.argument("room")
@CONFIG
@JSON
def park_waiting(room: str, config: Path, as_json: bool) -> None:
    """Put aside what a room waits for first.

    What comes after it goes on. It is among `trestle parked list` then, to be tried again or let
    go. Trestle must be running.
    """
    done = bool(_ask(config, "POST", f"/waiting/{quote(room, safe='')}/park"))
    if as_json:
        click.echo(json.dumps({"room": room, "parked": done}))
    elif done:
        click.echo("Put aside: trestle parked list shows it.")
    else:
        click.echo("It is being tried just now, and is put aside as soon as that has failed.")


def _ask(config: Path, method: str, path: str) -> Any:
    state_dir = place_of(config)

    async def work() -> Any:
        answer = await ask(state_dir, method, path)
        if answer is None:
            raise TrestleError("Trestle does not run with this config; start it, then try again")
        return answer

    return finished(run_until_told(work))
