"""An installation to import into: three networks, and a homeserver that is told what to say."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from ruamel.yaml import YAML

from bridge.core.logins.logins import record_of, target_of
from bridge.core.permissions.optouts import EVERYWHERE, OptOuts
from bridge.demo.matrix_user import PATIENCE
from bridge.demo.processes import free_port
from bridge.model import Asked, AskedState, AuditAction, SystemClock
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.accounts import Accounts
from bridge.storage.audit import Audit
from bridge.storage.consents import ConsentStore
from bridge.storage.masterkeys import MasterKeys
from bridge.storage.modulestore import InstanceStore
from bridge.storage.optouts import OptOutStore
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.vault import Vault
from tests.admin.commands import init, read_yaml
from tests.rigs.scripted_homeserver import ScriptedHomeserver, scripted_homeserver


def config_in(folder: Path, database: DatabaseSettings, homeserver: str) -> Path:
    """Settings with the networks ``own``, ``libera`` (channels of others) and ``plain``."""
    made = init(
        folder, *("--set", f"database.url={database.url}"), *("--set", "ops.listen=null"),
        *("--set", f"appservice.listen=127.0.0.1:{free_port()}"),
    )  # fmt: skip
    assert made.code == 0, made.said
    path = folder / "config.yaml"
    data = read_yaml(path)
    data["homeserver"]["url"] = homeserver
    server = {"host": "127.0.0.1", "port": 1}
    data["modules"] |= {
        "own": {"module": "irc", "own_network": True, "servers": [server | {"tls": False}]},
        "libera": {"module": "irc", "servers": [server]},
        "plain": {"module": "irc", "servers": [{"host": "irc.example", "tls": False}]},
    }
    with path.open("w") as output:
        YAML().dump(data, output)
    return path


@contextmanager
def homeserver_beside() -> Iterator[ScriptedHomeserver]:
    """Run one in a thread, since a command has a loop of its own."""
    ready: Future[tuple[ScriptedHomeserver, Callable[[], object]]] = Future()

    async def serve() -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with scripted_homeserver() as homeserver:
            ready.set_result((homeserver, lambda: loop.call_soon_threadsafe(end.set)))
            await end.wait()

    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(asyncio.run, serve())
        homeserver, end = ready.result(PATIENCE)
        try:
            yield homeserver
        finally:
            end()
            serving.result(PATIENCE)


def state_of(settings: DatabaseSettings, state_dir: Path) -> dict[str, object]:
    """What an import writes, as it is: rooms, choices, and each login's secrets."""
    return asyncio.run(_state_of(settings, state_dir))


async def _state_of(settings: DatabaseSettings, state_dir: Path) -> dict[str, object]:
    async with Database.open(settings, state_dir, SystemClock()) as database:
        vault = Vault(database, MasterKeys.load(state_dir))
        found: dict[str, object] = {}
        for portal in await PortalStore(database).all():
            found[f"{portal.instance} {portal.chat}"] = (portal.room, portal.created_by)
        for name in ("own", "libera", "plain"):
            store = InstanceStore(database, InstanceId(name))
            for key, value in (await store.find("")).items():
                found[f"{name} {key}"] = value.decode()
            for row in await Accounts(database).logins(InstanceId(name)):
                secrets = await vault.secrets_of(row.id)
                found[f"{name} {row.owner} {row.name}"] = {
                    record.partition(" ")[2]: one.reveal() for record, one in secrets.items()
                }
        return found


def choices_of(settings: DatabaseSettings, state_dir: Path) -> dict[str, tuple[str, str | None]]:
    """How far each room follows its chat, and who is shown in it if that is chosen."""

    async def read() -> dict[str, tuple[str, str | None]]:
        async with Database.open(settings, state_dir, SystemClock()) as database:
            portals = await PortalStore(database).all()
            return {one.chat: (one.follow, one.members) for one in portals}

    return asyncio.run(read())


def opted_out(settings: DatabaseSettings, state_dir: Path, person: str) -> tuple[bool, list[str]]:
    """Whether somebody is not bridged anywhere; and who has had a say in that, as audited."""

    async def read() -> tuple[bool, list[str]]:
        clock = SystemClock()
        async with Database.open(settings, state_dir, clock) as database:
            audit = Audit(database, state_dir)
            optouts = OptOuts(OptOutStore(database, state_dir), audit)
            await optouts.load()
            return optouts.cover(UserId(person), 1), [
                f"{row.action} {row.target} by {row.actor}"
                async for row in audit.rows() if row.subject == person
            ]  # fmt: skip

    return asyncio.run(read())


def opt_in(settings: DatabaseSettings, state_dir: Path, person: str) -> None:
    """Have somebody say ``optin everywhere``."""

    async def say() -> None:
        clock = SystemClock()
        async with Database.open(settings, state_dir, clock) as database:
            audit = Audit(database, state_dir)
            optouts = OptOuts(OptOutStore(database, state_dir), audit)
            await optouts.load()
            await optouts.remove(UserId(person), EVERYWHERE)

    asyncio.run(say())


def end_bridges(
    settings: DatabaseSettings, state_dir: Path, *, unbridged: str, refused: str
) -> None:
    """Have one chat unbridged by somebody in its room, and one by those who run it, days ago."""
    asyncio.run(_end_bridges(settings, state_dir, unbridged, refused))


async def _end_bridges(
    settings: DatabaseSettings, state_dir: Path, unbridged: str, refused: str
) -> None:
    clock = SystemClock()
    someone, past = UserId("@someone:test.example"), clock.now() - timedelta(days=9)
    async with Database.open(settings, state_dir, clock) as database:
        store, audit = PortalStore(database), Audit(database, state_dir)
        for portal in await store.all():
            if portal.chat == unbridged:
                await audit.record(
                    actor=someone, action=AuditAction.UNBRIDGE,
                    target=f"{portal.instance} {portal.chat} {portal.room}",
                )  # fmt: skip
            elif portal.chat == refused:
                await ConsentStore(database).put(Asked(
                    instance=portal.instance, chat=portal.chat, chat_name=portal.chat_name,
                    room=portal.room, room_name=portal.room, by=someone,
                    state=AskedState.REFUSED, at=past, until=past, again_at=past,
                ))  # fmt: skip
            else:
                continue
            await store.remove(portal.id)


def sign_in(settings: DatabaseSettings, state_dir: Path, owner: str, name: str) -> None:
    """Have somebody link a login on ``own``, by a new password."""
    asyncio.run(_sign_in(settings, state_dir, UserId(owner), name))


async def _sign_in(
    settings: DatabaseSettings, state_dir: Path, owner: UserId, name: str
) -> None:  # fmt: skip
    clock, own = SystemClock(), InstanceId("own")
    async with Database.open(settings, state_dir, clock) as database:
        await Audit(database, state_dir).record(
            actor=owner, action=AuditAction.LINK, subject=owner, target=target_of(name, own)
        )
        row = await Accounts(database).link_login(own, owner, name)
        await Vault(database, MasterKeys.load(state_dir)).put(
            owner, own, record_of(row.id, "password"), b"newer words", login=row.id
        )


def log_out(settings: DatabaseSettings, state_dir: Path, owner: str) -> None:
    """Have somebody log out of all logins, as the bot does it."""
    asyncio.run(_log_out(settings, state_dir, UserId(owner)))


async def _log_out(settings: DatabaseSettings, state_dir: Path, owner: UserId) -> None:
    clock = SystemClock()
    async with Database.open(settings, state_dir, clock) as database:
        vault = Vault(database, MasterKeys.load(state_dir))
        accounts = Accounts(database)
        audit = Audit(database, state_dir)
        for instance, record in await vault.records_of(owner):
            await vault.delete(owner, instance, record)
        for name in ("own", "libera", "plain"):
            for row in await accounts.logins(InstanceId(name)):
                if row.owner == owner:
                    await audit.record(
                        actor=owner, action=AuditAction.LOGOUT, subject=owner,
                        target=target_of(row.name, row.instance),
                    )  # fmt: skip
                    await accounts.remove_login(row.id)
