"""The keys to what people sign in with: ``trestle keys``."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from bridge.cli.asking import ask_program
from bridge.cli.group import (
    CONFIG,
    JSON,
    a_person,
    finished,
    main,
    place_of,
    quietly,
    run_until_told,
    shows,
)
from bridge.cli.steps import showing
from bridge.core.oversight.byhand import HERE, forget, rotate
from bridge.doors.control import follow
from bridge.model import AuditAction, SystemClock
from bridge.sdk.errors import TrestleError
from bridge.settings.records import Settings
from bridge.storage.audit import Audit
from bridge.storage.masterkeys import MasterKeys, random_master_key
from bridge.storage.reach import opened
from bridge.storage.rotation import Rotation
from bridge.storage.vault import Vault

_Alone = Callable[[Rotation, Audit], Awaitable[Any]]


@main.group()
def keys() -> None:
    """The keys to what people sign in with."""


@keys.command("rotate")
@CONFIG
@JSON
def rotate_keys(config: Path, as_json: bool) -> None:
    """Change the master key; Trestle may keep running.

    If it is cut short, run it again: it goes on from there.
    """
    faults = _follow(config, "POST", "/keys/rotate", "Sealing keys anew", as_json)
    if as_json:
        click.echo(json.dumps({"faults": faults}))
    else:
        click.echo("The master key was changed. Keep a copy of the new one elsewhere.")
    _end_with(faults, as_json)


@keys.command("check")
@CONFIG
@JSON
def check_keys(config: Path, as_json: bool) -> None:
    """Check that everything in the vault opens."""
    faults = _follow(config, "GET", "/keys/check", "Opening records", as_json)
    if as_json:
        click.echo(json.dumps({"faults": faults}))
    elif not faults:
        click.echo("Everything opens.")
    _end_with(faults, as_json)


@keys.command("new")
@shows
def new_key() -> None:
    """Print a new master key, for those who keep it in the environment."""
    try:
        click.echo(random_master_key())
    except OSError as error:
        raise TrestleError(
            f"the new key could not be written to standard output: {error.strerror}. It is kept "
            "nowhere; make another where there is room"
        ) from error


@keys.command("forget")
@click.argument("person")
@CONFIG
@JSON
def forget_keys(person: str, config: Path, as_json: bool) -> None:
    """Destroy the credentials of a person, who must then sign in again."""
    subject = a_person(person)

    async def alone(rotation: Rotation, audit: Audit) -> int:
        await rotation.vault.open()
        return await forget(subject, rotation, audit)

    count = ask_program(
        config, "DELETE", f"/keys/{quote(person, safe='')}",
        alone=lambda: _alone(quietly(config), alone),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"records": count}))
        return
    click.echo(f"{count} records of {person} are gone, and the key that opened them.")


@keys.command("reset")
@click.option("--yes", is_flag=True, help="Do not ask.")
@CONFIG
def reset_keys(config: Path, yes: bool) -> None:
    """Destroy everybody's credentials, once the master key is lost."""
    settings = quietly(config)
    if not yes:
        click.confirm("Everybody must sign in again. Go on?", abort=True)

    async def reset(rotation: Rotation, audit: Audit) -> bool:
        await audit.record(actor=HERE, action=AuditAction.FORGET, target="all keys")
        await rotation.vault.reset()
        return True

    finished(run_until_told(lambda: _alone(settings, reset)))
    click.echo("All credentials are gone. Keep a copy of the master key elsewhere from now on.")


async def _alone(settings: Settings, work: _Alone) -> Any:
    """Do it ourselves with the database, so no Trestle may be running."""
    async with _opened(settings) as (rotation, audit):
        return await work(rotation, audit)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Rotation, Audit]]:
    async with opened(settings.database, settings.state_dir, SystemClock()) as database:
        audit = Audit(database, settings.state_dir)
        vault = Vault(database, MasterKeys.load(settings.state_dir))
        yield Rotation(database, vault), audit


def _follow(config: Path, method: str, path: str, words: str, as_json: bool) -> list[str]:
    """Have the running program do it, or do it ourselves, and show the progress."""
    state_dir = place_of(config)
    with showing(words, quiet=as_json) as steps:

        async def work() -> bool:
            if await follow(state_dir, method, path, steps.show):
                return True
            async with _opened(quietly(config)) as (rotation, audit):
                await rotation.vault.open()
                own = rotate(rotation, audit) if method == "POST" else rotation.check()
                async with aclosing(own):
                    async for step in own:
                        steps.show(asdict(step))
            return True

        so = "Give the same command again: it goes on from there" if method == "POST" else ""
        finished(run_until_told(work), cut=so)
    return steps.faults


def _end_with(faults: list[str], as_json: bool) -> None:
    """Name what does not open, and end with an error if anything does not."""
    if not faults:
        return
    if not as_json:
        for fault in faults:
            click.echo(fault)
    raise TrestleError(
        f"{len(faults)} records in the vault do not open. Restore a backup in which they do, or "
        "run `trestle keys forget PERSON`: that person then signs in again"
    )
