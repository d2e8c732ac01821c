"""Coming from another bridge: ``trestle import``."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bridge.cli.backup import shown
from bridge.cli.group import CONFIG, JSON, finished, main, quietly, run_until_told
from bridge.importing.appserviceirc import PasswordKey, read_channel_keys, sort_rows
from bridge.importing.carrying import Carried, Carrier, Means, Report
from bridge.importing.found import Found
from bridge.importing.heisenbridge import Heisenbridge
from bridge.importing.visiting import FormerBot, Visit
from bridge.logs import hide
from bridge.matrix.client import HomeserverClient
from bridge.model import SystemClock
from bridge.running.roster import check_modules, namespaces_of, split_modules
from bridge.running.workshop import make_module
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.ids import InstanceId
from bridge.sdk.importing import TakesOver
from bridge.settings.records import Settings
from bridge.storage.appserviceirc import read_appservice_irc
from bridge.storage.audit import Audit
from bridge.storage.masterkeys import MasterKeys
from bridge.storage.optouts import OptOutStore
from bridge.storage.pool import Database, refuse_another_owner
from bridge.storage.reach import opened
from bridge.storage.vault import Vault

NETWORK = click.option(
    "--network", "networks", multiple=True, metavar="NAME=INSTANCE",
    help="The other bridge's name of a network, and ours, where they differ. May be repeated.",
)  # fmt: skip
AGREED = click.option(
    "--agreed", is_flag=True,
    help="The channels' operators agreed to the other bridge: they are not asked again.",
)  # fmt: skip
DRY_RUN = click.option(
    "--dry-run", is_flag=True,
    help="Say what would happen; change nothing. Trestle must have been started once.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every importer is told."""

    settings: Settings
    networks: tuple[str, ...]
    agreed: bool
    dry_run: bool
    former: FormerBot | None


Reads = Callable[[HomeserverClient, Report], Coroutine[Any, Any, Found]]
Blanks = Callable[[HomeserverClient, Carried], Coroutine[Any, Any, None]]


@main.group("import")
def import_group() -> None:
    """Bring rooms, nicks and sign-ins over from another bridge."""


@import_group.command("heisenbridge", short_help="Come from heisenbridge.")
@click.option(
    "--registration", required=True, type=click.Path(path_type=Path),
    help="heisenbridge's registration file, which the homeserver must still use.",
)  # fmt: skip
@NETWORK
@AGREED
@click.option(
    "--blank-passwords", is_flag=True,
    help="Remove from heisenbridge the passwords that the vault holds afterwards.",
)  # fmt: skip
@DRY_RUN
@CONFIG
@JSON
def import_heisenbridge(
    registration: Path, networks: tuple[str, ...], agreed: bool, blank_passwords: bool,
    dry_run: bool, config: Path, as_json: bool,
) -> None:  # fmt: skip
    """Bring rooms, nicks and sign-ins over from heisenbridge.

    Trestle and heisenbridge must be stopped, the homeserver must be running. What is there already
    stays as it is, and nothing is brought over twice.
    """
    settings = quietly(config)
    former = FormerBot.read(registration, settings.homeserver.server_name)
    hide(former.token)
    plan = Plan(
        settings=settings, networks=networks, agreed=agreed, dry_run=dry_run, former=former
    )

    async def read(client: HomeserverClient, report: Report) -> Found:
        return await Heisenbridge(client, former).read(report)

    async def blank(client: HomeserverClient, carried: Carried) -> None:
        for source, kept in carried.sealed.items():
            await Heisenbridge(client, former).blank(source, kept)

    carried = _import(plan, read, blank if blank_passwords and not dry_run else None)
    _tell(carried, dry_run=dry_run, as_json=as_json)


@import_group.command("appservice-irc", short_help="Come from matrix-appservice-irc.")
@click.option(
    "--database", "url", required=True, metavar="URL", envvar="TRESTLE_IMPORT_DATABASE",
    show_envvar=True, help="matrix-appservice-irc's Postgres; it is only read.",
)  # fmt: skip
@click.option(
    "--registration", type=click.Path(path_type=Path),
    help="Its registration file: with it, its bot invites ours and gives ours its rights.",
)  # fmt: skip
@click.option(
    "--password-key", type=click.Path(path_type=Path),
    help="The file with the key to its passwords (passwordEncryptionKeyPath).",
)  # fmt: skip
@click.option(
    "--bridge-config", type=click.Path(path_type=Path),
    help="Its config.yaml, for the keys of channels (+k).",
)  # fmt: skip
@click.option(
    "--sasl", is_flag=True,
    help="It signs people in by SASL (`sasl: true`). Without this, passwords are the server's.",
)  # fmt: skip
@NETWORK
@AGREED
@DRY_RUN
@CONFIG
@JSON
def import_appservice_irc(
    url: str, registration: Path | None, password_key: Path | None, bridge_config: Path | None,
    sasl: bool,
    networks: tuple[str, ...], agreed: bool, dry_run: bool, config: Path, as_json: bool,
) -> None:  # fmt: skip
    """Bring rooms, nicks and sign-ins over from matrix-appservice-irc.

    Trestle and the old bridge must be stopped, the homeserver must be running. What is there
    already stays as it is, and nothing is brought over twice.
    """
    settings = quietly(config)
    former = None
    if registration is not None:
        former = FormerBot.read(registration, settings.homeserver.server_name)
        hide(former.token)
    key = None if password_key is None else PasswordKey.read(password_key)
    channel_keys = {} if bridge_config is None else read_channel_keys(bridge_config)
    plan = Plan(
        settings=settings, networks=networks, agreed=agreed, dry_run=dry_run, former=former
    )

    async def read(client: HomeserverClient, report: Report) -> Found:
        report("reading the database", 0, 1)
        rows = await read_appservice_irc(url)
        return sort_rows(
            rows, key, sasl=sasl, channel_keys=channel_keys, bot=namespaces_of(settings).bot
        )

    _tell(_import(plan, read), dry_run=dry_run, as_json=as_json)


def _import(plan: Plan, read: Reads, blank: Blanks | None = None) -> Carried:
    settings = plan.settings
    check_modules(settings)
    connectors = {name: make_module(settings, name) for name in split_modules(settings)[0]}
    names = _names(plan.networks, connectors)
    carriers: list[Carrier] = []

    async def work() -> Carried:
        with shown() as report:
            async with _means(plan, connectors, names) as (means, client):
                found = await read(client, report)
                carriers.append(carrier := Carrier(means))
                carried = await carrier.carry(found, report)
                if blank is not None:
                    await blank(client, carried)
                return carried

    carried = run_until_told(work)
    if carried is None:
        so_far = carriers[0].so_far if carriers else Carried()
        click.echo(f"trestle: cut off. {_so_far(so_far, dry_run=plan.dry_run)}", err=True)
    return finished(carried)


def _so_far(carried: Carried, *, dry_run: bool) -> str:
    """What is so after an import that was cut off, and the way on."""
    if dry_run:
        return "Nothing was changed"
    return (
        f"Brought over so far: {len(carried.rooms)} rooms, {len(carried.people)} people; they "
        "stay. Give the same command again for the rest: nothing is brought over twice"
    )


@asynccontextmanager
async def _means(
    plan: Plan, connectors: dict[InstanceId, object], names: dict[str, InstanceId]
) -> AsyncIterator[tuple[Means, HomeserverClient]]:
    settings = plan.settings
    homeserver, bot = settings.homeserver, namespaces_of(settings).bot
    refuse_another_owner(settings.state_dir)
    # A dry run neither makes a database nor brings one to a new version.
    open_it = opened if plan.dry_run else Database.open
    async with (
        open_it(settings.database, settings.state_dir, SystemClock()) as database,
        HomeserverClient(homeserver.url, settings.appservice.as_token) as client,
    ):
        vault = Vault(database, MasterKeys.load(settings.state_dir))
        visit = Visit(client, bot, plan.former)
        if plan.dry_run:
            await vault.refuse_lost()
        else:
            await vault.open()
            await visit.begin()
        yield Means(
            database=database, connectors=connectors, names=names, agreed=plan.agreed,
            audit=Audit(database, settings.state_dir),
            optouts=OptOutStore(database, settings.state_dir), vault=vault, visit=visit,
            dry_run=plan.dry_run,
        ), client  # fmt: skip


def _names(
    networks: tuple[str, ...], connectors: dict[InstanceId, object]
) -> dict[str, InstanceId]:
    """The other bridge's names and ours. Raises ``TrestleError`` for one that is not there."""
    able = sorted(name for name, one in connectors.items() if isinstance(one, TakesOver))
    if not able:
        raise ConfigError(
            "there is no network to import into; add one (`module: irc`) and try again",
            path="modules",
        )
    names = {name.lower(): name for name in able}
    for one in networks:
        theirs, equals, ours = one.rpartition("=")
        if not equals or InstanceId(ours) not in able:
            raise TrestleError(
                f"--network {one}: write the other bridge's name, =, and one of {', '.join(able)}"
            )
        names[theirs.strip().lower()] = InstanceId(ours)
    return names


def _tell(carried: Carried, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        told = {
            "dry_run": dry_run, "rooms": carried.rooms, "people": carried.people,
            "there": carried.there, "left": carried.left,
        }  # fmt: skip
        click.echo(json.dumps(told, indent=2))
        return
    brought = "Would be brought over" if dry_run else "Brought over"
    for head, lines in (
        (f"{brought}, rooms:", carried.rooms), (f"{brought}, people:", carried.people),
        ("There already:", carried.there), ("Stays behind:", carried.left),
    ):  # fmt: skip
        if lines:
            click.echo(head)
        for line in lines:
            click.echo(f"  {line}")
    click.echo(
        f"{brought}: {len(carried.rooms)} rooms, {len(carried.people)} people. "
        f"There already: {len(carried.there)}. Stays behind: {len(carried.left)}."
    )
    if dry_run:
        click.echo("Nothing was changed.")
