"""What was put aside: ``trestle parked``."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

import click

from bridge.cli.asking import NOT_RUNNING, ask_program
from bridge.cli.group import CONFIG, JSON, finished, main, place_of, quietly, run_until_told, shows
from bridge.cli.steps import showing
from bridge.core.oversight.byhand import HERE, Choice, drop_each
from bridge.doors.control import follow
from bridge.jsontext import encode
from bridge.model import AuditAction, ParkReason, SystemClock
from bridge.sdk.errors import TrestleError
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.reach import opened
from bridge.storage.shelf import Shelf, contents, summary

_Alone: TypeAlias = Callable[[Shelf, Audit], Coroutine[Any, Any, Any]]

ALL = click.option("--all", "all_of_them", is_flag=True, help="Everything that is parked.")

REASON = click.option(
    "--reason", type=click.Choice([one.value for one in ParkReason]), metavar="REASON",
    help=f"With --all: only what is parked for that reason: {', '.join(ParkReason)}.",
)  # fmt: skip


@main.group()
def parked() -> None:
    """What was put aside: see why, try it again, let it go."""


@parked.command("list")
@CONFIG
@JSON
@shows
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
@shows
def show_parked(name: str, config: Path, as_json: bool) -> None:
    """Show one item, with what people said."""
    row = _parked(config, "GET", f"/parked/{quote(name, safe='')}", lambda s, _: _one(s, name))
    if as_json:
        click.echo(_pretty(row))
        return
    click.echo(_in_a_line(row))
    click.echo(_pretty(row["event"]) if row["event"] else "Its event is not kept.")


@parked.command("retry")
@click.argument("name", required=False)
@ALL
@REASON
@CONFIG
@JSON
def retry_parked(
    name: str | None, all_of_them: bool, reason: str | None, config: Path, as_json: bool
) -> None:
    """Try one item again now, or all of them. Trestle must be running.

    What cannot be tried again is named, and stays parked.
    """
    if _is_one(name, all_of_them, reason):
        row = ask_program(config, "POST", f"/parked/{quote(name or '', safe='')}/retry")
        click.echo(json.dumps(row, indent=2) if as_json else f"Runs again: {_in_a_line(row)}")
        return
    path = f"/parked/retry?{_query(reason=reason)}"
    _through(_All("POST", path, "Running again", "run again"), config, as_json)


@parked.command("drop")
@click.argument("name", required=False)
@ALL
@REASON
@click.option("--yes", is_flag=True, help="Do not ask before dropping all.")
@CONFIG
@JSON
def drop_parked(
    name: str | None,
    all_of_them: bool,
    reason: str | None,
    yes: bool,
    config: Path,
    as_json: bool,
) -> None:
    """Drop one item for good, or all of them."""
    if _is_one(name, all_of_them, reason):
        one = name or ""
        row = _parked(
            config, "DELETE", f"/parked/{quote(one, safe='')}", lambda s, a: _drop(s, a, one)
        )
        click.echo(json.dumps(row, indent=2) if as_json else f"Let go: {_in_a_line(row)}")
        return
    seen = None
    if not yes:
        rows = _parked(config, "GET", "/parked", _summaries)
        seen = sum(reason in (None, row["reason"]) for row in rows)
        if seen:
            click.confirm(f"Let {seen} go for good?", abort=True, err=True)
    path = f"/parked?{_query(reason=reason, expected=seen)}"
    choice = Choice(reason=None if reason is None else ParkReason(reason), expected=seen)
    _through(_All("DELETE", path, "Letting go", "let go", choice), config, as_json)


def _is_one(name: str | None, all_of_them: bool, reason: str | None) -> bool:
    if (name is None) != all_of_them:
        raise click.UsageError("name one, or say --all")
    if reason is not None and not all_of_them:
        raise click.UsageError("--reason needs --all")
    return not all_of_them


def _query(**given: object) -> str:
    return urlencode({key: value for key, value in given.items() if value is not None})


class _All(NamedTuple):
    """What is done with many items."""

    method: str
    path: str
    doing: str
    done: str
    alone: Choice | None = None
    """Which of them go if no program runs; None: it takes a running one."""


def _through(task: _All, config: Path, as_json: bool) -> None:
    """Do it with many items, show the progress, say what became of them."""
    state_dir = place_of(config)
    with showing(task.doing, quiet=as_json) as steps:

        async def work() -> bool:
            if await follow(state_dir, task.method, task.path, steps.show):
                return True
            if task.alone is None:
                raise TrestleError(NOT_RUNNING)
            async with _opened(config) as (shelf, audit):
                own = drop_each(shelf, audit, task.alone)
                async with aclosing(own):
                    async for step in own:
                        steps.show(asdict(step))
            return True

        done = run_until_told(work)
    count = steps.done - len(steps.faults)
    finished(done, cut=f"At least {count} {task.done}; `trestle parked list` has the rest")
    if as_json:
        click.echo(json.dumps({"count": count, "faults": steps.faults}, indent=2))
    else:
        said = f"{count} {task.done}." if steps.done else "Nothing of that kind is parked."
        click.echo("\n".join([said, *steps.faults]))
    if steps.faults:
        raise TrestleError(f"{len(steps.faults)} could not be {task.done}")


def _parked(config: Path, method: str, path: str, alone: _Alone) -> Any:
    """Ask the running program; if none runs, do ``alone`` with the database ourselves."""

    async def by_ourselves() -> Any:
        async with _opened(config) as (shelf, audit):
            return await alone(shelf, audit)

    return ask_program(config, method, path, alone=by_ourselves)


@asynccontextmanager
async def _opened(config: Path) -> AsyncIterator[tuple[Shelf, Audit]]:
    """What is parked, with the database ourselves; so no Trestle may be running."""
    settings = quietly(config)
    async with opened(settings.database, settings.state_dir, SystemClock()) as database:
        day_keys = DayKeys(settings.state_dir, database.clock)
        yield Shelf(database, day_keys), Audit(database, settings.state_dir)


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
