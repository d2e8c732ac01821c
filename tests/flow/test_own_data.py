"""People see what is kept about them, and have a copy: in a direct chat, and nowhere else."""

import asyncio
import io
import re
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bridge.app import App
from bridge.core.commands.owndata import COPY_STARTS, OwnData
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.matrix.medialinks import read_mxc
from bridge.model import SystemClock
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings, Settings
from bridge.storage.modulestore import InstanceStore
from bridge.storage.pool import Database
from tests.conformance.stage import Play, play, settings_for
from tests.core.loginchats import ALICE
from tests.core.loginchats import Chat as PrivateChat
from tests.flow.chats import Chat
from tests.flow.rooms import BOT, bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.own_data import rows_in
from tests.rigs.scripted_homeserver import (
    Answer,
    Asked,
    Rule,
    ScriptedHomeserver,
    refuse,
    scripted_homeserver,
)
from tests.rigs.trestle import Town, running, wait_until


def files(person: MatrixUser, room: str) -> list[dict[str, Any]]:
    """What files the bot gave the person."""
    said = [event["content"] for event in person.heard(room, BOT)]
    return [content for content in said if content.get("msgtype") == "m.file"]


async def download(town: Town, person: MatrixUser, content: Mapping[str, Any]) -> bytes:
    """The file, as the person's client gets it."""
    media = read_mxc(content["url"])
    assert media is not None
    place = f"{town.synapse.url}/_matrix/client/v1/media/download/{media.server}/{media.id}"
    headers = {"Authorization": f"Bearer {person._token}"}
    async with town.session.get(place, headers=headers) as reply:
        assert reply.status == 200
        data = await reply.read()
    assert len(data) == content["info"]["size"]
    return data


async def test_somebody_has_a_copy_of_what_is_kept_and_of_nobody_else(
    town: Town, app: App, irc: IrcServer
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    async with irc_user(irc.port, "carl") as carl:
        carl.say("JOIN #tea")
        room = await bridge(alice, "#tea")
        await bea.join(room)
        for person in (alice, bea):
            await person.say(room, f"hello from {person.id}")
            await carl.expect(f"hello from {person.id}")
        chat = await Chat.begun_by(alice)
        await chat.say("data")
        summary = await chat.expect("What I keep about you")
        assert "who speaks on which network: 1, kept as long as the login" in summary
        assert "which room is tied to which chat: 1" in summary
        names = "which user names a Matrix user has and had on the network: 1"
        assert f"{names}, kept as long as near is set up" in summary
        assert "erasure" not in summary
        await chat.say("forget me")
        goes = await chat.expect("say forget me yes within ten minutes")
        assert "59 days from the erasure, or shorter" in goes
        (file,) = files(alice, chat.room)
        data = await download(town, alice, file)
        rows = rows_in(io.BytesIO(data))
        assert [row["room"] for row in rows["portal"]] == [room]
        assert {row["sender"] for row in rows["message"]} == {alice.id}
        assert [row["key"] for row in rows["module_store"] if "nick:" in row["key"]] == [
            f"nick:{alice.id}"
        ]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            said = "".join(archive.read(name).decode() for name in archive.namelist())
        assert bea.id not in said
        assert "hello" not in said
        await chat.say("data")
        refused = await chat.expect("you have just asked for a copy")
        (seconds,) = re.findall(r"a new one in (\d+) seconds", refused)
        assert 240 < int(seconds) <= 300
        assert len(files(alice, chat.room)) == 1


async def test_where_others_read_nothing_is_said_of_anybody(town: Town, app: App) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    room = await alice.create_room(preset="public_chat", invite=[BOT])
    await alice.wait_until_joined(room, BOT)
    await bea.join(room)
    await alice.say(room, "!trestle data")
    await alice.wait_for_text(room, "I am making it; you get it in our direct chat.")
    chat = await Chat.accepted_by(alice)
    await chat.expect("What I keep about you")
    assert len(files(alice, chat.room)) == 1
    assert not files(alice, room)


async def test_in_a_direct_chat_that_somebody_else_came_into_it_is_said_in_another(
    town: Town, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    chat = await Chat.begun_by(alice)
    await alice.invite(chat.room, bea.id)
    await bea.join(chat.room)
    await chat.say("!trestle data")
    await chat.expect("I am making it; you get it in our direct chat.")
    other = await Chat.accepted_by(alice)
    await other.expect("What I keep about you")
    assert len(files(alice, other.room)) == 1
    assert not files(alice, chat.room)


async def test_when_the_homeserver_takes_no_such_file_it_says_what_can_be_done(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def refuse_files(asked: Asked) -> Answer | None:
        return refuse(413, "M_TOO_LARGE") if "upload" in asked.path else None

    async with play(database_settings, folder, rules=[refuse_files]) as stage:
        chat = await PrivateChat(stage).open()
        own_data = stage.app.parts.main_bot.own_data
        assert await own_data.show(chat.call("$data", text="data")) == "I am making it."
        await chat.expect("as large as your copy", 1)
        assert "trestle export" in stage.homeserver.texts(chat.room)[-1]
        asked = own_data._asked_by(UserId(ALICE))
        await wait_until(lambda: asked.copy_again_at < inf)
        stage.homeserver.rules.remove(refuse_files)
        # It was not given, so it may be asked for again soon.
        with pytest.raises(PermanentFailure, match=r"a new one in (2\d|30) seconds"):
            await own_data.show(chat.call("$soon", text="data"))
        own_data._asked.clear()
        await own_data.show(chat.call("$again", text="data"))
        await chat.expect("does not say where it stored your copy", 1)


async def test_why_a_copy_could_not_be_made_is_in_the_log(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise RuntimeError("a fault of ours")

    async with play(database_settings, folder) as stage:
        chat = await PrivateChat(stage).open()
        own_data = stage.app.parts.main_bot.own_data
        own_data._personal._modules = broken
        await own_data.show(chat.call("$data", text="data"))
        await chat.expect("whoever runs this bridge finds why in the log", 1)
    (said,) = [one for one in caplog.records if getattr(one, "event", "") == "copy_failed"]
    assert "a fault of ours" in str(said.exc_info)
    assert not [one for one in caplog.records if getattr(one, "event", "") == "login_failed"]


async def test_who_waits_for_a_copy_behind_others_is_answered_meanwhile(
    town: Town, app: App
) -> None:
    alice = await town.person("alice")
    chat, own_data = await Chat.begun_by(alice), app.parts.main_bot.own_data
    async with own_data._copying:
        await chat.say("data")
        await chat.expect("I am making it.")
        await chat.say("data")
        await chat.expect("I am making your copy already")
        await chat.say("ping")
        await chat.expect("I am here.")
        assert not files(alice, chat.room)
    await chat.expect("What I keep about you")
    assert len(files(alice, chat.room)) == 1


async def test_who_comes_into_the_chat_while_a_copy_waits_is_not_given_it(
    town: Town, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    chat = await Chat.begun_by(alice)
    async with app.parts.main_bot.own_data._copying:
        await chat.say("data")
        await chat.expect("I am making it.")
        await alice.invite(chat.room, bea.id)
        await bea.join(chat.room)
    other = await Chat.accepted_by(alice)
    await other.expect("What I keep about you")
    assert len(files(alice, other.room)) == 1
    assert not files(alice, chat.room)


async def test_who_comes_into_the_chat_while_a_copy_is_made_does_not_read_why_there_is_none(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def refuse_files(asked: Asked) -> Answer | None:
        return refuse(413, "M_TOO_LARGE") if "upload" in asked.path else None

    async with play(database_settings, folder, rules=[refuse_files]) as stage:
        chat, rooms = await PrivateChat(stage).open(), stage.homeserver.rooms
        own_data, before = stage.app.parts.main_bot.own_data, set(rooms)
        async with own_data._copying:
            assert await own_data.show(chat.call("$data", text="data")) == "I am making it."
            rooms[chat.room].add("@carol:test.example")
        await stage.homeserver.wait_until(lambda: bool(rooms.keys() - before))
        (other,) = rooms.keys() - before
        await chat.expect("as large as your copy", room=other)
        assert not stage.homeserver.texts(chat.room)


async def test_a_homeserver_that_does_not_say_who_is_in_a_chat_is_no_fault_of_ours(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = [refuse(400, "M_WHATEVER")]

    def rule(asked: Asked) -> Answer | None:
        return refusals.pop() if refusals and "joined_members" in asked.parts else None

    async with play(database_settings, folder, rules=[take_files]) as stage:
        chat = await PrivateChat(stage).open()
        own_data = stage.app.parts.main_bot.own_data
        async with own_data._copying:
            assert await own_data.show(chat.call("$data", text="data")) == "I am making it."
            stage.homeserver.rules.insert(0, rule)
        await chat.expect("I could not do that: the homeserver refused it")
    assert not [one for one in caplog.records if getattr(one, "event", "") == "copy_failed"]


async def test_what_could_not_be_done_for_the_moment_may_be_asked_for_again_at_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def be_away(asked: Asked) -> Answer | None:
        return refuse(503, "M_UNKNOWN") if "joined_members" in asked.path else None

    async with play(database_settings, folder) as stage:
        chat = await PrivateChat(stage).open()
        own_data = stage.app.parts.main_bot.own_data
        await own_data.forget(chat.call("$forget", text="forget me"), ["me"])
        own_data._asked_by(ALICE).tell_again_at = 0.0
        stage.homeserver.rules.insert(0, be_away)
        for number in (1, 2):
            with pytest.raises(TemporaryFailure):
                await own_data.show(chat.call(f"$data{number}", text="data"))
            with pytest.raises(TemporaryFailure):
                await own_data.forget(chat.call(f"$me{number}", text="forget me"), ["me"])
            with pytest.raises(TemporaryFailure):
                await own_data.forget(chat.call(f"$yes{number}", text=""), ["me", "yes"])
        stage.homeserver.rules.remove(be_away)
        stage.app.parts.erasure._is_loaded = False
        with pytest.raises(TemporaryFailure, match="still starting"):
            await own_data.forget(chat.call("$yes3", text=""), ["me", "yes"])
        stage.app.parts.erasure._is_loaded = True
        assert "being done" in await own_data.forget(chat.call("$yes4", text=""), ["me", "yes"])


async def test_a_yes_counts_for_ten_minutes(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        chat, now = await PrivateChat(stage).open(), asyncio.get_running_loop().time
        own_data = stage.app.parts.main_bot.own_data
        await own_data.forget(chat.call("$forget", text="forget me"), ["me"])
        asked = own_data._asked_by(ALICE)
        assert 590 < asked.yes_until - now() <= 600
        asked.yes_until = now()
        with pytest.raises(PermanentFailure, match="say forget me first"):
            await own_data.forget(chat.call("$late", text=""), ["me", "yes"])
        assert not await stage.app.parts.erasure._personal.erased_at()


def take_files(asked: Asked) -> Answer | None:
    """A rule: the homeserver stores what it is given."""
    return Answer(content={"content_uri": "mxc://hs/x"}) if "upload" in asked.path else None


@dataclass(slots=True)
class Stopped:
    """Trestle was stopped while Alice waited for a copy, and may be started again."""

    homeserver: ScriptedHomeserver
    settings: Settings
    chat: PrivateChat

    @asynccontextmanager
    async def started(self) -> AsyncIterator[OwnData]:
        """Run it; the chat is one with what runs."""
        async with running(self.settings) as app:
            self.chat.stage = Play(self.homeserver, self.settings, app)
            yield app.parts.main_bot.own_data

    def files(self, room: str = "") -> list[str]:
        """The copies that were given, by name."""
        texts = self.homeserver.texts(room or self.chat.room)
        return [text for text in texts if text.startswith("my-data-")]


@asynccontextmanager
async def stopped(
    database: DatabaseSettings, folder: Path, *rules: Rule, starts: int = 1
) -> AsyncIterator[Stopped]:
    """``starts``: so often the copy was begun. ``rules`` come before that files are taken."""
    async with scripted_homeserver() as homeserver:
        homeserver.rules += [*rules, take_files]
        settings = settings_for(homeserver, database, folder)
        async with running(settings) as app:
            chat = await PrivateChat(Play(homeserver, settings, app)).open()
            await app.parts.main_bot.own_data._note(ALICE, chat.room, "$data", starts=starts)
        yield Stopped(homeserver, settings, chat)


async def test_a_copy_that_was_being_made_when_trestle_stopped_is_made_at_the_next_start_and_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(take_files)
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            chat = await PrivateChat(Play(homeserver, settings, app)).open()
            own_data = app.parts.main_bot.own_data
            await own_data._copying.acquire()
            assert await own_data.show(chat.call("$data", text="data")) == "I am making it."
            # For so long somebody may wait for it.
            until = await app.parts.database.core.fetchval(
                "SELECT until FROM module_store WHERE key LIKE 'copy:%'"
            )
            life = until - app.parts.database.clock.now()
            assert timedelta(hours=23) < life <= timedelta(days=1)
        here = Stopped(homeserver, settings, chat)
        for _ in range(2):
            async with here.started() as own_data:
                await chat.expect("What I keep about you", 1)
                async with asyncio.timeout(PATIENCE):
                    while await own_data._store.find("copy:"):
                        await asyncio.sleep(0.02)
        assert len(here.files()) == 1
        said = homeserver.texts(chat.room)
        assert len([text for text in said if "What I keep about you" in text]) == 1


async def test_a_copy_that_ends_every_start_is_given_up_and_that_is_said(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with (
        stopped(database_settings, folder, starts=COPY_STARTS) as here,
        here.started() as own_data,
    ):
        await here.chat.expect("To try once more, say data", 1)
        assert not here.files()
        call = here.chat.call("$again", text="data")
        assert await own_data.show(call) == "I am making it."
        await here.chat.expect("What I keep about you", 1)


async def test_a_copy_that_is_taken_up_is_given_where_nobody_else_came_in_meanwhile(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with stopped(database_settings, folder) as here:
        rooms, room = here.homeserver.rooms, here.chat.room
        rooms[room].add("@carol:test.example")
        before = set(rooms)
        async with here.started():
            await here.homeserver.wait_until(lambda: bool(rooms.keys() - before))
            (other,) = rooms.keys() - before
            await here.chat.expect("What I keep about you", room=other)
        assert here.files(other)
        assert not here.homeserver.texts(room)


async def test_a_copy_that_cannot_be_taken_up_keeps_no_other_back(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = UserId("@aaron:test.example")
    async with stopped(database_settings, folder) as here:
        async with Database.open(database_settings, here.settings.state_dir, SystemClock()) as at:
            store = InstanceStore(at, InstanceId(""))
            assert list(await store.find("copy:")) == [f"copy:{ALICE}"]
            await store.put(f"copy:{bad}", b"nothing that we wrote", subject=bad)
        async with here.started():
            await here.chat.expect("What I keep about you")
    assert [one.getMessage() for one in caplog.records if "copy_failed" in vars(one).values()] == [
        "a copy is not taken up"
    ]


async def test_a_copy_for_somebody_who_cannot_be_reached_keeps_no_other_back(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    aaron = UserId("@aaron:far.example")

    def be_far(asked: Asked) -> Answer | None:
        is_for_aaron = aaron in asked.content.get("invite", ())
        return refuse(502, "M_UNKNOWN") if is_for_aaron else take_files(asked)

    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(be_far)
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            chat = await PrivateChat(Play(homeserver, settings, app)).open()
            for person in (aaron, ALICE):
                note = app.parts.main_bot.own_data._note
                await note(person, chat.room, "$data", starts=1)
        async with running(settings):
            await chat.expect("What I keep about you")
            assert any(
                aaron in asked.content["invite"] for asked in homeserver.of("POST", "createRoom")
            )


async def test_a_copy_that_is_taken_up_waits_for_a_homeserver_that_comes_later(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    asked_for: list[str] = []

    def come_late(asked: Asked) -> Answer | None:
        if "upload" not in asked.path or asked_for:
            return None
        asked_for.append(asked.path)
        return refuse(502, "M_UNKNOWN")

    async with stopped(database_settings, folder, come_late) as here:
        async with here.started():
            await here.chat.expect("What I keep about you")
        assert asked_for
        assert len(here.homeserver.texts(here.chat.room)) == 2
