"""Who has what is kept about them erased: all that goes is gone for good, and nobody else's."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.model import SystemClock
from bridge.networks.irc.connector import IrcConnector
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RemoteChatId, RoomId, UserId
from bridge.settings.records import Settings
from bridge.storage.datamap import DATA_MAP
from bridge.storage.labels import Goes
from tests.flow.chats import Chat
from tests.flow.logins import link_as
from tests.flow.networks import NEAR
from tests.flow.records import acts
from tests.flow.rooms import bridge
from tests.rigs.cluster import Cluster
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, running, wait_until
from tests.storage.everything import Full, put, write

GOES = {table.name for table in DATA_MAP if table.subject and isinstance(table.erased, Goes)}


async def kept(app: App, person: MatrixUser) -> dict[str, int]:
    """How many rows each table has about the person."""
    summary = await app.parts.main_bot.own_data._personal.summary(UserId(person.id))
    found: Counter[str] = Counter()
    for one in summary:
        found[one.table] += one.number
    return dict(found)


async def is_erased(app: App, person: MatrixUser) -> bool:
    """Whether of what goes nothing is left but user names, which have an end."""
    async with app.parts.database.core.acquire() as connection:
        endless = await connection.fetchval(
            "SELECT count(*) FROM module_store WHERE subject = $1 AND until IS NULL", person.id
        )
    return not endless and (await kept(app, person)).keys() & GOES <= {"module_store"}


@dataclass(slots=True)
class Scene:
    """Alice and bea have spoken in a bridged room; alice has a login, and a direct chat by it."""

    alice: MatrixUser
    bea: MatrixUser
    room: str
    carl: IrcUser


@asynccontextmanager
async def scene(town: Town, app: App, irc: IrcServer, name: str) -> AsyncIterator[Scene]:
    alice, bea = await town.person("alice"), await town.person("bea")
    async with irc_user(irc.port, f"carl{name}") as carl:
        carl.say(f"JOIN #{name}")
        room = await bridge(alice, f"#{name}")
        await bea.join(room)
        for person in (alice, bea):
            await person.say(room, f"hello from {person.id}")
            await carl.expect(f"hello from {person.id}")
        nick = f"own{name}"
        row = await link_as(app, UserId(alice.id), nick)
        carl.say(f"PRIVMSG {nick} :psst")
        find, who = app.parts.portals.find_direct, RemoteChatId(f"carl{name}")
        await wait_until(lambda: find(NEAR, who, row.id) is not None)
        yield Scene(alice, bea, room, carl)


async def erase(chat: Chat) -> str:
    """Say it and say yes; give what was done."""
    await chat.say("forget me")
    await chat.expect("say forget me yes within ten minutes")
    await chat.say("forget me yes")
    await chat.expect("It is being done")
    return await chat.expect("It is done.")


async def test_what_is_kept_about_somebody_goes_with_logins_and_chats_and_nobody_elses(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app, scene(town, app, irc, "tea") as found:
        alice, bea, carl = found.alice, found.bea, found.carl
        before = await kept(app, alice)
        assert {"login", "vault", "subject_key", "module_store", "portal"} <= before.keys()
        beas = await kept(app, bea)
        chat = await Chat.begun_by(alice)
        await chat.say("forget me yes")
        await chat.expect("say forget me first")
        new = {name: before.get(name, 0) + 1 for name in ("bot_room", "told")}
        assert await kept(app, alice) == before | new
        done = await erase(chat)
        assert "Logins ended: owntea on near. Direct chats ended: 1." in done
        assert "who changed what" in done  # It stays, and that is said.
        await carl.expect("QUIT")
        left = await kept(app, alice)
        # By the user name she may be banned: it stays for a time.
        assert left.keys() & GOES == {"module_store"}
        assert left.pop("module_store") == 1
        (row,) = await app.parts.database.core.fetch(
            "SELECT key, until FROM module_store WHERE subject = $1", alice.id
        )
        assert row["key"] == f"username:{alice.id}"
        assert timedelta(days=58) < row["until"] - SystemClock().now() < timedelta(days=59)
        assert "which user names a Matrix user has and had on the network: 1" in done
        assert {"audit", "message", "bot_room"} <= left.keys() <= before.keys() | {"bot_room"}
        assert await kept(app, bea) == beas
        assert app.parts.logins.of(UserId(alice.id)) == []
        (door,) = app.parts.portals.all
        assert (door.portal.room, door.portal.created_by) == (found.room, None)
        # Nothing of it is in memory, from where it would come back.
        network = cast(IrcConnector, app.parts.instances[NEAR].connector)._network
        assert alice.id not in dict(network._nicks.owned() if network._nicks else ())
        # A second time there is nothing, and that is no error.
        assert "Logins ended: none. Direct chats ended: 0. Rows erased: 0." in await erase(chat)
        # The room goes on, and who speaks again is known anew.
        await bea.say(found.room, "is she gone?")
        await carl.expect("is she gone?")
        await alice.say(found.room, "hello again")
        await carl.expect("hello again")
        assert "login" in await kept(app, alice)
        assert await acts(app)


async def test_who_was_erased_and_speaks_again_is_told_first_as_at_the_first_time(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings):
        alice, bea = await town.person("alice"), await town.person("bea")
        async with irc_user(irc.port, "carlnew") as carl:
            await carl.join("#anew")
            room = await bridge(alice, "#anew")
            await bea.join(room)
            for number in (1, 2):
                for person in (alice, bea):
                    await person.say(room, f"hello {number} from {person.id}")
                    await carl.expect(f"hello {number} from {person.id}")
                said = [str(event["content"].get("body")) for event in await alice.messages(room)]
                told = [text for text in said if "from a connection of your own" in text]
                assert sum(alice.id in text for text in told) == number
                assert sum(bea.id in text for text in told) == 1
                if number == 1:
                    await erase(await Chat.begun_by(alice))


async def test_where_others_read_it_is_answered_in_a_direct_chat(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app:
        alice = await town.person("alice")
        room, chat = await bridge(alice, "#open"), await Chat.begun_by(alice)
        await alice.say(room, "!trestle forget me")
        await chat.expect("say forget me yes within ten minutes")
        await alice.say(room, "!trestle forget me yes")
        await chat.expect("It is done.")
        said = [str(event["content"].get("body")) for event in alice.heard(room)]
        assert not [one for one in said if "What goes:" in one or "It is done." in one]
        assert await is_erased(app, alice)


async def test_what_goes_is_counted_again_for_nobody_who_was_just_told(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings):
        chat = await Chat.begun_by(await town.person("alice"))
        for answer in ("say forget me yes within ten minutes", "I have just told you"):
            await chat.say("forget me")
            await chat.expect(answer)


async def test_who_opted_out_is_so_after_it_was_erased(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app:
        alice = await town.person("alice")
        chat = await Chat.begun_by(alice)
        await chat.say("optout everywhere")
        await chat.expect("Nothing that you say is bridged")
        assert "who does not want to be bridged: 1" in await erase(chat)
        assert app.parts.optouts.cover(UserId(alice.id), 1)
    async with running(settings) as app:
        assert app.parts.optouts.cover(UserId(alice.id), 1)
        assert not app.parts.erasure.taken_up


async def test_what_was_cut_off_is_taken_up_at_the_next_start(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app, scene(town, app, irc, "cut") as found:
        alice, bea = found.alice, found.bea
        who = UserId(alice.id)
        chat = await Chat.begun_by(alice)
        await chat.say("ping")
        await chat.expect("I am here.")
        beas = await kept(app, bea)
        await app.parts.erasure.begin(who, who)
    async with running(settings) as app:
        assert await is_erased(app, alice)
        assert await kept(app, bea) == beas
        await chat.expect("I had been interrupted, or an older backup was restored")
        assert [door.portal.room for door in app.parts.portals.all] == [RoomId(found.room)]
        heard = await kept(app, alice)
    async with running(settings) as app:
        # It is done once.
        assert not app.parts.erasure.taken_up
        assert (await kept(app, alice))["audit"] == heard["audit"]


class Failing:
    """What knows what is kept about people, where erasing fails with these, one after another."""

    def __init__(self, personal: Any, *errors: Exception) -> None:
        self._personal = personal
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._personal, name)

    async def erase(self, person: UserId) -> Mapping[str, int]:
        if self._errors:
            raise self._errors.pop(0)
        gone: Mapping[str, int] = await self._personal.erase(person)
        return gone


async def test_while_the_database_is_away_it_waits_and_what_was_done_before_is_told_too(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app, scene(town, app, irc, "away") as found:
        erasure = app.parts.erasure
        erasure._personal = cast(Any, Failing(erasure._personal, TemporaryFailure("it is away")))
        done = await erase(await Chat.begun_by(found.alice))
        assert "Logins ended: ownaway on near. Direct chats ended: 1." in done
        assert await is_erased(app, found.alice)


async def test_what_fails_in_the_midst_is_told_and_taken_up_at_the_next_start(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app, scene(town, app, irc, "bad") as found:
        alice, erasure = found.alice, app.parts.erasure
        erasure._personal = cast(Any, Failing(erasure._personal, RuntimeError("a fault of ours")))
        chat = await Chat.begun_by(alice)
        await chat.say("forget me")
        await chat.expect("say forget me yes within ten minutes")
        await chat.say("forget me yes")
        await chat.expect("I could not finish it")
        assert not await is_erased(app, alice)
    async with running(settings) as app:
        assert await is_erased(app, alice)
        await chat.expect("What I kept about you is erased")


async def fail(person: UserId) -> None:
    raise RuntimeError("a module's fault")


async def hang(person: UserId) -> None:
    await asyncio.Event().wait()


async def cancel(person: UserId) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("forget", [fail, hang, cancel])
async def test_a_module_that_does_not_forget_holds_nothing_up(
    town: Town, irc: IrcServer, settings: Settings, forget: Any
) -> None:
    async with running(settings) as app, scene(town, app, irc, f"m{forget.__name__}") as found:
        app.parts.erasure.forget_limit = 0.5
        connector: Any = app.parts.instances[NEAR].connector
        connector.forget = forget
        done = await erase(await Chat.begun_by(found.alice))
        assert "near may remember you until Trestle is started again." in done
        assert await is_erased(app, found.alice)


async def test_who_comes_into_the_chat_while_somebody_is_erased_is_not_told_of_it(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    is_asked, may_end = asyncio.Event(), asyncio.Event()

    async def hold(person: UserId) -> None:
        is_asked.set()
        await may_end.wait()

    async with running(settings) as app:
        alice, bea = await town.person("alice"), await town.person("bea")
        connector: Any = app.parts.instances[NEAR].connector
        connector.forget = hold
        app.parts.erasure.forget_limit = PATIENCE
        chat = await Chat.begun_by(alice)
        await chat.say("forget me")
        await chat.expect("say forget me yes within ten minutes")
        await chat.say("forget me yes")
        await wait_until(is_asked.is_set)
        await alice.invite(chat.room, bea.id)
        await bea.join(chat.room)
        may_end.set()
        other = await Chat.accepted_by(alice)
        await other.expect("It is done.")
        said = [str(event["content"].get("body")) for event in alice.heard(chat.room)]
        assert not [one for one in said if "It is done." in one]


async def test_what_stays_is_not_counted_in_time_and_it_is_done_nevertheless(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app:
        alice, erasure = UserId((await town.person("alice")).id), app.parts.erasure
        erasure._personal = cast(Any, Uncounted(erasure._personal))
        await erasure.begin(alice, alice)
        done = await erasure.finish(alice, alice)
        assert "What stays could not be counted; say data to see it." in done.remarks
        assert alice in await app.parts.erasure._personal.erased_at()
        assert erasure._notes.find([alice])[alice].is_done


class Uncounted(Failing):
    """What knows what is kept about people, where counting takes too long."""

    async def summary(self, person: UserId) -> Any:
        raise TemporaryFailure("it took too long")


async def test_what_an_older_backup_brings_back_is_erased_again_and_who_came_back_later_is_not(
    town: Town, irc: IrcServer, settings: Settings, cluster: Cluster, folder: Path
) -> None:
    clock, state = SystemClock(), settings.state_dir
    older, newer = folder / "older.trestle", folder / "newer.trestle"
    async with running(settings) as app, scene(town, app, irc, "old") as found:
        alice, bea = found.alice, found.bea
        beas = await kept(app, bea)
        await write(Full(settings.database, state, older), older, clock)
        chat = await Chat.begun_by(alice)
        await erase(chat)
        await alice.say(found.room, "hello again")
        await found.carl.expect("hello again")
        await write(Full(settings.database, state, newer), newer, clock)
    notes = (state / "keys/erased-people").read_text()
    assert alice.id not in notes
    for file, is_taken_up in ((older, True), (newer, False)):
        database = await cluster.fresh()
        await put(file, database, state, clock)
        changed = town.settings_for(folder, database, modules=settings.modules)
        async with running(changed) as app:
            left = await kept(app, alice)
            assert ("login" in left) is not is_taken_up
            assert await is_erased(app, alice) is is_taken_up
            assert (await kept(app, bea))["login"] == beas["login"]


async def test_a_ghost_is_nobody_who_is_erased_and_one_person_is_erased_once_at_a_time(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app:
        parts, alice = app.parts, UserId((await town.person("alice")).id)
        erasure = parts.erasure
        for ours in (parts.namespaces.bot, parts.namespaces.ghost(NEAR, "carl")):
            with pytest.raises(PermanentFailure, match="no person"):
                await erasure.begin(ours, alice)
        await erasure.begin(alice, alice)
        with pytest.raises(PermanentFailure, match="being done"):
            await erasure.begin(alice, alice)
        near = parts.instances[NEAR]
        for begun in (
            parts.logins.begin(alice, near, near.connector.login_flows()[0]),
            near.session_of(alice, "alice"),
        ):
            with pytest.raises(TemporaryFailure, match="erased just now"):
                await begun
        assert await parts.accounts.logins_of(alice) == []
        await erasure.finish(alice, alice)
        assert await near.session_of(alice, "alice")


class Slow(Failing):
    """What knows what is kept about people, where erasing takes until it may end."""

    def __init__(self, personal: Any) -> None:
        super().__init__(personal)
        self.may_end = asyncio.Event()

    async def erase(self, person: UserId) -> Mapping[str, int]:
        await self.may_end.wait()
        return await super().erase(person)


async def test_what_is_said_by_somebody_who_is_being_erased_waits_and_crosses_afterwards(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app, scene(town, app, irc, "wait") as found:
        who, erasure = UserId(found.alice.id), app.parts.erasure
        slow = Slow(erasure._personal)
        erasure._personal = cast(Any, slow)
        (door,) = app.parts.portals.in_room(RoomId(found.room))
        chat = await Chat.begun_by(found.alice)
        await chat.say("forget me")
        await chat.expect("say forget me yes within ten minutes")
        await chat.say("forget me yes")
        await wait_until(lambda: not app.parts.logins.of(who))
        await found.alice.say(found.room, "said meanwhile")
        await wait_until(lambda: "is being erased just now" in door.waits_because)
        assert not any("said meanwhile" in line for line in found.carl.heard)
        slow.may_end.set()
        await chat.expect("It is done.")
        await found.carl.expect("said meanwhile")


async def test_who_is_not_in_a_restored_backup_keeps_what_they_have_when_they_come_back(
    town: Town, irc: IrcServer, settings: Settings, cluster: Cluster, folder: Path
) -> None:
    clock, state = SystemClock(), settings.state_dir
    empty = folder / "empty.trestle"
    async with running(settings) as app:
        await write(Full(settings.database, state, empty), empty, clock)
        alice = UserId((await town.person("alice")).id)
        await app.parts.erasure.begin(alice, alice)
        await app.parts.erasure.finish(alice, alice)
    database = await cluster.fresh()
    await put(empty, database, state, clock)
    changed = town.settings_for(folder, database, modules=settings.modules)
    async with running(changed) as app:
        assert not app.parts.erasure.taken_up
        await app.parts.accounts.link_login(NEAR, alice, "ownback")
    async with running(changed) as app:
        assert [row.owner for row in await app.parts.accounts.logins_of(alice)] == [alice]


async def test_what_was_erased_twice_is_erased_again_whatever_backup_comes_when(
    town: Town, irc: IrcServer, settings: Settings, cluster: Cluster, folder: Path
) -> None:
    clock, state = SystemClock(), settings.state_dir
    backups = [folder / "first.trestle", folder / "second.trestle"]
    async with running(settings) as app:
        person = await town.person("alice")
        alice = UserId(person.id)
        for file in backups:
            await app.parts.bot_rooms.note_told(alice, f"a word before {file.stem}")
            await write(Full(settings.database, state, file), file, clock)
            await app.parts.erasure.begin(alice, alice)
            await app.parts.erasure.finish(alice, alice)
    for file in backups:
        database = await cluster.fresh()
        await put(file, database, state, clock)
        changed = town.settings_for(folder, database, modules=settings.modules)
        async with running(changed) as app:
            assert "told" not in await kept(app, person)


async def test_a_noted_person_who_is_a_ghost_by_new_settings_stops_no_start(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app:
        ghost = app.parts.namespaces.ghost(NEAR, "carl")
        await app.parts.erasure._note(ghost, app.parts.namespaces.bot, SystemClock().now(), 0)
    async with running(settings) as app:
        assert not app.parts.erasure.taken_up
        assert not app.parts.erasure._notes.find([ghost])[ghost].is_done


async def test_an_erasure_goes_on_when_who_asked_for_it_is_gone(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings) as app:
        alice, erasure = UserId((await town.person("alice")).id), app.parts.erasure
        erasure._personal = cast(Any, Failing(erasure._personal, TemporaryFailure("it is away")))
        await erasure.begin(alice, alice)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await erasure.finish(alice, alice)
        await wait_until(lambda: erasure._notes.find([alice])[alice].is_done)
