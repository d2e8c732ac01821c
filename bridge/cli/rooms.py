"""The bridged rooms, from outside them: ``trestle rooms``."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from bridge.cli.group import CONFIG, JSON, finished, main, place_of, run_until_told
from bridge.doors.control import ask
from bridge.sdk.errors import TrestleError

_UNTYING_SECONDS = 600.0
"""A room may have thousands of ghosts, who leave one after the other."""


@main.group()
def rooms() -> None:
    """The bridged rooms: see them, end a bridge."""


@rooms.command("list")
@CONFIG
@JSON
def list_rooms(config: Path, as_json: bool) -> None:
    """List the bridged rooms, by network and channel, and how they are.

    Direct chats are not among them. Trestle must be running.
    """
    rows = _ask(config, "GET", "/rooms")
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
@click.option("--network", default="", help="Which of its bridges, where it has several.")
@click.option("--channel", default="", help="The same.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@CONFIG
def unbridge_room(room: str, network: str, channel: str, config: Path, yes: bool) -> None:
    """End the bridge of a room, which is named by its id or an alias.

    It is done as by `!trestle unbridge` in the room: the ghosts leave, and its aliases go. Trestle
    must be running.
    """
    if not yes:
        click.confirm(f"Nothing crosses {room} any more, and the ghosts leave. Go on?", abort=True)
    query = urlencode({"network": network, "channel": channel})
    row = _ask(config, "DELETE", f"/rooms/{quote(room, safe='')}?{query}")
    click.echo(f"No longer bridged: {_in_a_line(row)}")


def _in_a_line(row: dict[str, Any]) -> str:
    return f"{row['network']}  {row['channel']}  {row['room']}"


def _ask(config: Path, method: str, path: str) -> Any:
    state_dir = place_of(config)

    async def work() -> Any:
        answer = await ask(state_dir, method, path, limit=_UNTYING_SECONDS)
        if answer is None:
            raise TrestleError("Trestle does not run with this config; start it, then try again")
        return answer

    return finished(run_until_told(work))
