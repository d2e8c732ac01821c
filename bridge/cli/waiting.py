"""What waits to get into its room in Matrix: ``trestle waiting``."""

import json
from pathlib import Path
from urllib.parse import quote

import click

from bridge.cli.asking import ask_program
from bridge.cli.group import CONFIG, JSON, main, shows


@main.group()
def waiting() -> None:
    """What is not in Matrix yet: see why, put it aside."""


@waiting.command("list")
@CONFIG
@JSON
@shows
def list_waiting(config: Path, as_json: bool) -> None:
    """List the rooms for which something waits, the longest wait first.

    Trestle must be running.
    """
    rows = ask_program(config, "GET", "/waiting")
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
    """Put aside the first thing that waits for a room.

    What comes after it goes on. `trestle parked` shows it then, to be tried again or dropped.
    Trestle must be running.
    """
    done = bool(ask_program(config, "POST", f"/waiting/{quote(room, safe='')}/park"))
    if as_json:
        click.echo(json.dumps({"room": room, "parked": done}))
    elif done:
        click.echo("Put aside: trestle parked list shows it.")
    else:
        click.echo("It is being tried right now, and is put aside as soon as that fails.")
