"""What becomes of a login's direct chats, accounts and fellows when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.app import App
from bridge.model import LoginRow, SystemClock
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind, RemoteChat, RemoteMessage, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, RemoteUserId, RoomId
from bridge.sdk.rich import Rich
from bridge.settings.records import DatabaseSettings
from bridge.storage.endedlogins import EndedLogins
from tests.conformance.stage import play, settings_for
from tests.flow.logins import link_as
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import BOT, ghost
from tests.flow.scripted import ANN
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import scripted_homeserver
from tests.rigs.trestle import running, wait_until

LENT = RoomId("!lent")


async def whisper(app: App, row: LoginRow, sender: IrcUser, nick: str) -> RoomId:
    """Have somebody write to a login for the first time; the room of their chat."""
    find = app.parts.portals.find_direct
    sender.say(f"PRIVMSG {row.name} :hello")
    await wait_until(lambda: find(NEAR, RemoteChatId(nick), row.id) is not None)
    door = find(NEAR, RemoteChatId(nick), row.id)
    assert door is not None
    return door.portal.room


@asynccontextmanager
async def chat_kept(app: App, nick: str) -> AsyncIterator[None]:
    """A chat cannot be untied."""
    async with app.parts.database.core.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM portal WHERE chat = $1 FOR UPDATE", nick)
        yield


async def test_nobody_begins_a_chat_with_a_login_that_is_being_ended(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "dora") as dora,
        play(database_settings, folder, modules=irc_module(irc)) as stage,
    ):
        parts = stage.app.parts
        row = await link_as(stage.app, ANN, "wanda")
        for somebody, nick in ((carl, "carl"), (dora, "dora")):
            await whisper(stage.app, row, somebody, nick)
        session = parts.instances[NEAR].find_login(row.id)
        assert session is not None
        async with asyncio.TaskGroup() as group:
            async with chat_kept(stage.app, "dora"):
                ending = group.create_task(parts.logins.log_out(ANN, session))
                carls = RemoteChatId("carl")
                await wait_until(lambda: parts.portals.find_direct(NEAR, carls, row.id) is None)
                carl.say("PRIVMSG wanda :again")
                await carl.expect(" 401 ")
                with pytest.raises(PermanentFailure, match="logging out"):
                    await parts.portals.receive(NEAR, row, _message("carl"))
            await ending
        assert not parts.portals.all
        assert not await parts.accounts.personal_logins()


def _message(nick: str) -> RemoteMessage:
    return RemoteMessage(
        chat=RemoteChatId(nick), id=RemoteMessageId("again"), kind=MessageKind.TEXT,
        sender=RemoteUser(id=RemoteUserId(nick), name=nick), body=Rich.plain("again"),
        at=SystemClock().now(), direct=True,
    )  # fmt: skip


async def lend(app: App, row: LoginRow) -> None:
    """Have a login speak for everybody in a room."""
    portals, chat = app.parts.portals, RemoteChatId("#lent")
    door = await portals.add(
        instance=NEAR, chat=RemoteChat(id=chat, name="#lent"), room=LENT, created_by=ANN
    )
    await app.parts.house.store.set_choices(replace(door.portal, relay=row.id))


async def test_a_login_that_a_restored_backup_brings_back_is_ended_with_all_that_was_its_own(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        scripted_homeserver() as homeserver,
    ):
        settings = settings_for(homeserver, database_settings, folder, modules=irc_module(irc))
        async with running(settings) as app:
            first, second = [await link_as(app, ANN, nick) for nick in ("wanda", "anna")]
            assert first.preferred
            chat = await whisper(app, first, carl, "carl")
            other = await whisper(app, second, carl, "carl")
            await app.parts.double_puppets.identify(first, RemoteUserId("wanda"))
            await lend(app, first)
        # So it is after a restore: the note lies beside the database.
        await EndedLogins(settings.state_dir).add(ANN, NEAR, "wanda")
        async with running(settings) as app:
            parts = app.parts
            (left,) = await parts.accounts.personal_logins()
            assert left == replace(second, preferred=True)
            shared, direct = sorted(parts.portals.all, key=lambda door: door.portal.room)
            assert (shared.portal.relay, direct.portal.room) == (None, other)
            own = "The bridge's own connection does."
            await homeserver.wait_until(lambda: own in str(homeserver.texts(LENT)))
            await homeserver.wait_until(lambda: homeserver.rooms[chat] == set())
            ended = "Your login wanda on near has ended, and this chat with it."
            assert homeserver.texts(chat)[-1] == ended
            assert {BOT, ghost("carl")} <= homeserver.rooms[other]
            # The nick may be somebody else's by now.
            wanda = RemoteUser(id=RemoteUserId("wanda"), name="wanda")
            assert parts.double_puppets.find_owner(NEAR, wanda) is None
            await wait_until(lambda: parts.instances[NEAR].is_open)
            (session,) = parts.logins.of(ANN)
            assert session.row == left
