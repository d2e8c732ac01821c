"""The bridged rooms, from outside them: ``trestle rooms``."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from bridge.cli.asking import ask_program
from bridge.cli.group import CONFIG, JSON, main, shows

_UNTYING_SECONDS = 600.0
"""A room may have thousands of ghosts, who leave one after the other."""


@main.group()
def rooms() -> None:
    """The bridged rooms: see them, end a bridge."""


@rooms.command("list")
@CONFIG
@JSON
@shows
def list_rooms(config: Path, as_json: bool) -> None:
    """List the bridged rooms, by network and channel, and how they are.

    Direct chats are left out. Trestle must be running.
    """
    rows = ask_program(config, "GET", "/rooms")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        because = f": {row['reason']}" if row["reason"] else ""
        click.echo(f"{_in_a_line(row)}  {row['state']}{because}")
    if not rows:
        click.echo("No room is bridged.")


@rooms.command("unbridge")
@click.argument("room")
@click.option(
    "--network", default="", help="The network of the bridge to end, if there are several."
)
@click.option("--channel", default="", help="Its channel there, if there are several.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@CONFIG
def unbridge_room(room: str, network: str, channel: str, config: Path, yes: bool) -> None:
    """End the bridge of a room, named by its id or an alias.

    This does what `!trestle unbridge` does in the room: the ghosts leave, and its aliases go.
    Trestle must be running.
    """
    if not yes:
        click.confirm(
            f"Nothing will cross {room} any more, and the ghosts leave. Go on?", abort=True
        )
    query = urlencode({"network": network, "channel": channel})
    path = f"/rooms/{quote(room, safe='')}?{query}"
    row = ask_program(config, "DELETE", path, limit=_UNTYING_SECONDS)
    click.echo(f"No longer bridged: {_in_a_line(row)}")


def _in_a_line(row: dict[str, Any]) -> str:
    return f"{row['network']}  {row['channel']}  {row['room']}"
