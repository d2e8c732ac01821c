"""What was put aside: ``trestle parked``."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import click

from bridge.cli.group import CONFIG, JSON, finished, main, place_of, quietly, run_until_told
from bridge.control import ask
from bridge.core.aside import HERE
from bridge.jsontext import encode
from bridge.model import AuditAction, SystemClock
from bridge.sdk.errors import TrestleError
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.reach import opened
from bridge.storage.shelf import Shelf, contents, summary

_Alone: TypeAlias = Callable[[Shelf, Audit], Coroutine[Any, Any, Any]]


@main.group()
def parked() -> None:
    """What was put aside: see why, try it again, let it go."""


@parked.command("list")
@CONFIG
@JSON
def list_parked(config: Path, as_json: bool) -> None:
    """List what is parked, oldest first."""
    rows = _parked(config, "GET", "/parked", _summaries)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(_in_a_line(row))
    if not rows:
        click.echo("Nothing is parked.")


@parked.command("show")
@click.argument("name")
@CONFIG
@JSON
def show_parked(name: str, config: Path, as_json: bool) -> None:
    """Show one, with what people said."""
    row = _parked(config, "GET", f"/parked/{quote(name, safe='')}", lambda s, _: _one(s, name))
    if as_json:
        click.echo(_pretty(row))
        return
    click.echo(_in_a_line(row))
    click.echo(_pretty(row["event"]) if row["event"] else "No event is kept of it.")


@parked.command("retry")
@click.argument("name")
@CONFIG
@JSON
def retry_parked(name: str, config: Path, as_json: bool) -> None:
    """Have one run again, now. Trestle must be running."""
    row = _parked(config, "POST", f"/parked/{quote(name, safe='')}/retry", None)
    click.echo(json.dumps(row, indent=2) if as_json else f"Runs again: {_in_a_line(row)}")


@parked.command("drop")
@click.argument("name")
@CONFIG
@JSON
def drop_parked(name: str, config: Path, as_json: bool) -> None:
    """Let one go for good."""
    row = _parked(
        config, "DELETE", f"/parked/{quote(name, safe='')}", lambda s, a: _drop(s, a, name)
    )
    click.echo(json.dumps(row, indent=2) if as_json else f"Let go: {_in_a_line(row)}")


def _parked(config: Path, method: str, path: str, alone: _Alone | None) -> Any:
    """Ask the running program; if none runs, do ``alone`` with the database ourselves."""
    state_dir = place_of(config)

    async def work() -> Any:
        answer = await ask(state_dir, method, path)
        if answer is not None:
            return answer
        if alone is None:
            raise TrestleError("Trestle does not run with this config; start it, then try again")
        settings = quietly(config)
        async with opened(settings.database, settings.state_dir, SystemClock()) as database:
            day_keys = DayKeys(settings.state_dir, database.clock)
            audit = Audit(database, day_keys, settings.state_dir)
            return await alone(Shelf(database, day_keys), audit)

    return finished(run_until_told(work))


async def _summaries(shelf: Shelf, _: Audit) -> list[dict[str, Any]]:
    return [summary(one) for one in await shelf.all()]


async def _one(shelf: Shelf, name: str) -> dict[str, Any]:
    return contents(await shelf.get(name))


async def _drop(shelf: Shelf, audit: Audit, name: str) -> dict[str, Any]:
    one = await shelf.get(name)
    await audit.record(actor=HERE, action=AuditAction.DROP, target=one.name)
    await shelf.drop(one)
    return summary(one)


def _pretty(value: Any) -> str:
    try:
        return json.dumps(value, indent=2)
    except RecursionError:  # Whoever nests that deeply does not mean people to read it.
        return encode(value).decode()


def _in_a_line(row: dict[str, Any]) -> str:
    since = row["since"][:19].replace("T", " ")
    return f"{row['name']}  {row['consumer']}  {row['reason']}: {row['detail']}  since {since}"
