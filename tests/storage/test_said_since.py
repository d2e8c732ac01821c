"""What people said no to since a backup, they said no to after it is restored."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.logins.loginmeans import Means
from bridge.core.logins.logins import Logins, record_of
from bridge.core.permissions.permissions import Permissions
from bridge.matrix.client import HomeserverClient
from bridge.matrix.doubles import Doubles, Leave
from bridge.matrix.namespaces import Namespaces
from bridge.model import AuditAction, LoginRow
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from bridge.storage.accounts import Accounts
from bridge.storage.audit import Audit
from bridge.storage.doublepuppets import DoublePuppetStore
from bridge.storage.endedlogins import EndedLogins
from bridge.storage.erasednotes import ErasedPeople
from bridge.storage.files import make_folder, make_state_dir, write_private
from bridge.storage.keys import KeyLost
from bridge.storage.optouts import OptOutStore
from bridge.storage.pool import Database
from bridge.storage.portals import BotRooms, PortalStore
from bridge.storage.tokens import UsedOpenIds
from bridge.storage.vault import Vault
from tests.rigs.cluster import Cluster, until_one_waits
from tests.storage.conftest import TurnedClock
from tests.storage.everything import Full, put, write

PAGE = Path(__file__).parents[2] / "docs/how-to/restore.md"
COPIED = re.findall(
    r"`(keys/[a-z-]+)`", PAGE.read_text().partition("directory can still be read, copy")[2]
    .partition("before you restore")[0],
)  # fmt: skip
"""What the page says to copy from an old state."""


async def test_who_opted_out_since_the_backup_has_so_afterwards(
    cluster: Cluster, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    source, state, file = await cluster.fresh(), folder / "state", folder / "older.trestle"
    alice, bea, dan = UserId("@alice:hs"), UserId("@bea:hs"), UserId("@dan:hs")

    async def make_portal(database: Database, chat: str) -> int:
        store = PortalStore(database)
        await store.add(
            instance=InstanceId("near"), chat=RemoteChatId(chat), chat_name=chat,
            room=RoomId(f"!{chat}:hs"), created_by=alice,
        )  # fmt: skip
        return next(one.id for one in await store.all() if one.chat == chat)

    async with Database.open(source, state, clock) as database:
        outs = OptOutStore(database, state)
        await outs.all()
        kept = await make_portal(database, "kept")
        await outs.add(dan, 0)
        await write(Full(source, state, file), file, clock)
        later = await make_portal(database, "later")
        for person, portal in ((alice, 0), (bea, kept), (bea, later)):
            await outs.add(person, portal)
    notes = (state / "keys/opted-out").read_text()
    assert not any(person in notes for person in (alice, bea, dan))
    await put(file, database_settings, state, clock)
    async with Database.open(database_settings, state, clock) as database:
        outs = OptOutStore(database, state)
        assert await outs.all() == {(dan, 0)}
        assert outs.is_noted(alice, kept)
        assert outs.is_noted(bea, kept)
        assert not outs.is_noted(dan, kept)  # There is the row for that.
        # What was made since is gone, and its number is another's now.
        assert await make_portal(database, "other") == later
        assert not outs.is_noted(bea, later)
        assert outs.may_take_back(bea, kept)
        assert outs.may_take_back(alice, 0)
        assert not outs.may_take_back(alice, kept)
        await outs.remove(alice, 0)
        again = OptOutStore(database, state)
        await again.all()
        assert [again.is_noted(one, kept) for one in (alice, bea)] == [False, True]
        assert not again.is_noted(bea, later)
        (state / "keys/opted-out").write_text(notes.replace(" ", "", 1))
        with pytest.raises(ConfigError, match="opted-out cannot be read: it is damaged"):
            OptOutStore(database, state)


async def test_who_ended_a_double_puppet_since_the_backup_has_none_afterwards(
    cluster: Cluster, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    source, state, file = await cluster.fresh(), folder / "state", folder / "older.trestle"
    alice, bea, dan = UserId("@alice:hs"), UserId("@bea:hs"), UserId("@dan:hs")
    async with Database.open(source, state, clock) as database:
        store = DoublePuppetStore(database, state)
        for person in (alice, bea, dan):
            await store.set_puppet(person, "appservice")
        await write(Full(source, state, file), file, clock)
        for person in (alice, bea):
            await store.remove_puppet(person)
        await store.set_puppet(bea, "token")
    notes = (state / "keys/double-off").read_text()
    assert not any(person in notes for person in (alice, bea, dan))
    await put(file, database_settings, state, clock)
    async with Database.open(database_settings, state, clock) as database:
        vault = await Vault.at(database, state)
        await vault.put(alice, InstanceId(""), "double puppet", b"a token of hers")
        client = HomeserverClient("http://localhost", Secret("none"))
        doubles = Doubles(client, Namespaces(server_name="hs", networks=[]), lambda name: b"")
        puppets = DoublePuppets(
            DoublePuppetStore(database, state), vault, doubles,
            Audit(database, state), "hs",
        )  # fmt: skip
        await puppets.load()
        leaves = [await puppets.leave_of(one) for one in (alice, bea, dan)]
        assert leaves == [None, Leave(), Leave()]
        assert await vault.records_of(alice) == []
        # Who gives leave anew has it also after the next start.
        store = DoublePuppetStore(database, state)
        assert {person for person, _ in await store.puppets()} == {bea, dan}
        await store.set_puppet(alice, "appservice")
        store = DoublePuppetStore(database, state)
        assert {person for person, _ in await store.puppets()} == {alice, bea, dan}
        assert await store.taken_back() == []


async def test_a_login_that_was_ended_since_the_backup_stays_ended(
    cluster: Cluster, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    source, state, file = await cluster.fresh(), folder / "state", folder / "older.trestle"
    alice, near = UserId("@alice:hs"), InstanceId("near")
    names = ("ended", "again", "kept")
    async with Database.open(source, state, clock) as database:
        accounts, vault = Accounts(database), await Vault.at(database, state)
        ended = EndedLogins(state)
        rows = {name: await accounts.link_login(near, alice, name) for name in names}
        for row in rows.values():
            await vault.put(alice, near, record_of(row.id, "password"), b"hers", login=row.id)
        await write(Full(source, state, file), file, clock)
        for name in ("ended", "again"):
            await ended.add(alice, near, name)
            await accounts.remove_login(rows[name].id)
        await ended.remove(alice, near, "again")
    notes = (state / "keys/logged-out").read_text()
    assert not any(word in notes for word in (alice, near, *names))
    await put(file, database_settings, state, clock)
    async with Database.open(database_settings, state, clock) as database:
        accounts, vault = Accounts(database), await Vault.at(database, state)
        ended = EndedLogins(state)
        audit = Audit(database, state)
        client = HomeserverClient("http://localhost", Secret("none"))
        doubles = Doubles(client, Namespaces(server_name="hs", networks=[]), lambda name: b"")
        puppets = DoublePuppets(DoublePuppetStore(database, state), vault, doubles, audit, "hs")
        nobody = cast(Any, None)  # Nobody is told anything.
        means = Means(
            accounts=accounts, vault=vault, ended=ended, audit=audit, double_puppets=puppets,
            told=BotRooms(database), sender=nobody, private_chats=nobody, key_of=str.encode,
            bot=UserId("@bot:hs"), permissions=Permissions({}, "hs", lambda user: False),
        )  # fmt: skip
        logins, gone = Logins({}, means), []

        async def note_end(row: LoginRow) -> None:
            gone.append(row.name)

        logins.on_end = note_end
        await logins.load()
        assert gone == ["ended"]
        left = [row.name for row in await accounts.logins(near) if row.owner == alice]
        assert sorted(left) == ["again", "kept"]
        assert len(await vault.records_of(alice)) == 2
        (told,) = [row async for row in audit.rows() if row.action is AuditAction.LOGOUT]
        assert told.target == "ended on near"
        # Whoever signs in to it again has it, also after the next start.
        await ended.remove(alice, near, "ended")
        row = await accounts.link_login(near, alice, "ended")
        assert not EndedLogins(state).cover(row)


async def test_what_was_copied_from_an_old_state_counts_on_a_new_machine(
    cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    source, embedded, file = await cluster.fresh(), DatabaseSettings(), folder / "older.trestle"
    old, new, near = folder / "old", folder / "new", InstanceId("near")
    alice, bea = UserId("@alice:hs"), UserId("@bea:hs")
    until = clock.now() + timedelta(days=30)
    async with Database.open(source, old, clock) as database:
        vault, puppets = await Vault.at(database, old), DoublePuppetStore(database, old)
        await vault.put(bea, near, "a record", b"hers")
        await puppets.set_puppet(alice, "appservice")
        row = await Accounts(database).link_login(near, alice, "ended")
        await write(Full(source, old, file), file, clock)
        await OptOutStore(database, old).add(alice, 0)
        await puppets.remove_puppet(alice)
        await EndedLogins(old).add(alice, near, "ended")
        await vault.erase(bea)
        await ErasedPeople(old).note(bea, clock.now(), 0)
        assert await UsedOpenIds(database, old).note(b"h" * 32, until)
    make_state_dir(new)
    for name in COPIED:
        make_folder((new / name).parent)
        write_private(new / name, (old / name).read_bytes())
    await put(file, embedded, new, clock)
    async with Database.open(embedded, new, clock) as database:
        outs = OptOutStore(database, new)
        assert await outs.all() == set()
        assert outs.may_take_back(alice, 0)
        assert await DoublePuppetStore(database, new).taken_back() == [alice]
        assert EndedLogins(new).cover(row)
        with pytest.raises(KeyLost, match="erased, and it came back from a copy"):
            await (await Vault.at(database, new)).find(bea, near, "a record")
        assert set(ErasedPeople(new).find([alice, bea])) == {bea}
        assert not await UsedOpenIds(database, new).note(b"h" * 32, until)


async def test_who_takes_leave_back_is_noted_before_the_row_goes(
    database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    alice = UserId("@alice:hs")
    async with Database.open(database_settings, folder, clock) as database:
        store, core = DoublePuppetStore(database, folder), database.core
        await store.set_puppet(alice, "token")
        async with core.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE double_puppet IN SHARE MODE")
            async with asyncio.TaskGroup() as group:
                cut = group.create_task(store.remove_puppet(alice))
                await until_one_waits(core)
                cut.cancel()
        again = DoublePuppetStore(database, folder)
        assert await again.puppets() == []
        assert await again.taken_back() == [alice]
        await again.remove_puppet(alice)
        assert await again.taken_back() == []
