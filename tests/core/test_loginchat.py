"""What the main bot asks and says of logins: once, to one person, where nobody else reads."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from bridge.core.logins.logins import IDLE_SECONDS
from bridge.model import LoginRow, Outgoing
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.login import Finished, LoginKind, LoginProcess, LoginState, Step
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from bridge.storage.portals import BotRooms
from bridge.storage.tokens import Tokens
from tests.conformance.stage import ROOM, play
from tests.core.loginchats import ALICE, Chat
from tests.rigs.scripted_homeserver import Answer, Asked, refuse
from tests.rigs.trestle import wait_until

NEAR = InstanceId("near")
IRC = {"servers": [{"host": "127.0.0.1", "port": 9}]}


class Blinking(BotRooms):
    """What is told, where the database is away once."""

    is_away = True

    async def note_told(self, person: UserId, what: str) -> None:
        if self.is_away:
            self.is_away = False
            raise TemporaryFailure("the database is away")
        await super().note_told(person, what)


class Faltering:
    """What sends, where the database is away each other time."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._is_away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sender, name)

    async def put(self, outgoing: Sequence[Outgoing]) -> None:
        self._is_away = not self._is_away
        if self._is_away:
            raise TemporaryFailure("the database is away")
        await self._sender.put(outgoing)


class Hesitant:
    """A network that takes its time when somebody begins to sign in."""

    def __init__(self, connector: Any) -> None:
        self._connector = connector
        self.begun = 0
        self.may_go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def begin_login(self, flow: str, owner: UserId) -> LoginProcess:
        return HesitantProcess(self, self._connector.begin_login(flow, owner))


class HesitantProcess:
    def __init__(self, network: Hesitant, process: LoginProcess) -> None:
        self._network, self._process = network, process

    async def start(self) -> Step:
        self._network.begun += 1
        await self._network.may_go_on.wait()
        return await self._process.start()

    async def submit(self, answers: Mapping[str, Secret]) -> Step | Finished:
        return await self._process.submit(answers)


@pytest_asyncio.fixture
async def chat(database_settings: DatabaseSettings, folder: Path) -> AsyncIterator[Chat]:
    modules = {"near": ("irc", IRC)}
    async with play(database_settings, folder, modules=modules) as stage:
        await wait_until(lambda: stage.app.parts.instances[NEAR].is_open)
        yield await Chat(stage).open()


async def test_who_asks_how_the_connection_is_causes_no_try_of_it(chat: Chat) -> None:
    parts = chat.stage.app.parts
    session = await parts.instances[NEAR].session_of(ALICE, "Alice")
    session.supervisor._first_delay = 600  # No try comes by itself.
    for word, is_tried in (("reconnect", True), ("status", False), ("disconnect", False)):
        before = session.supervisor._next_try
        said = f"near {word}"
        await parts.main_bot.obey(chat.call(f"${word}", text=said), said)
        await wait_until(lambda: session.supervisor._next_try is not None)
        assert (session.supervisor._next_try != before) is is_tried
        assert not session.supervisor._again.is_set()


async def test_what_is_asked_is_answered_once_and_no_secret_where_somebody_comes(
    chat: Chat,
) -> None:
    login_chat = chat.login_chat
    login_chat._told = blinking = Blinking(chat.stage.app.parts.database)
    assert await login_chat.login(chat.call("$login"), ["near", "sasl"]) == ""
    await chat.expect("Account?")
    with pytest.raises(TemporaryFailure):
        await chat.hear("$account", "alice")
    talk = login_chat._talks[ALICE, chat.room]
    # The lane tries it again: it is still the account, and nothing else.
    await chat.hear("$account", "alice")
    await chat.expect("Password?")
    assert talk.answers == {"account": "alice"}
    await chat.hear("$password", "hunter2")
    await chat.hear("$password", "hunter2")
    await chat.expect("Nick, if", 2)
    assert talk.answers == {"account": "alice", "password": "hunter2"}
    assert not blinking.is_away
    # Begun anew; before the secret is asked for somebody else is invited.
    await login_chat.login(chat.call("$again"), ["near", "sasl"])
    await chat.expect("Account?", 2)
    chat.guests = {"@carol:test.example"}
    await chat.hear("$second", "alice")
    assert not login_chat._talks
    homeserver = chat.stage.homeserver
    (other,) = (room for room in homeserver.rooms if room not in (ROOM, chat.room))
    await chat.expect("I have stopped your sign-in", room=other)
    assert sum("Password?" in text for text in homeserver.texts(chat.room)) == 1


@pytest.mark.parametrize("hesitates", [True, False])
async def test_of_several_logins_that_are_said_at_once_only_the_last_one_asks(
    chat: Chat, hesitates: bool
) -> None:
    parts, login_chat = chat.stage.app.parts, chat.login_chat
    near = cast(Any, parts.instances[NEAR])
    near.connector = network = Hesitant(near.connector)
    flow = parts.logins.find_flow(near, "sasl")
    if not hesitates:
        network.may_go_on.set()
    for _ in range(3):  # Nothing is awaited: else the first may have asked before the second.
        login_chat._begin(ALICE, chat.room, near, flow)
    await wait_until(lambda: network.begun == 3)
    network.may_go_on.set()
    await chat.expect("Account?")
    await chat.hear("$account", "alice")
    await chat.expect("Password?")
    said = [text for text in chat.stage.homeserver.texts(chat.room) if "Account?" in text]
    assert len(said) == 1
    assert len(parts.logins._signing) == 1
    assert not login_chat._beginning


async def test_a_question_that_was_left_alone_for_long_takes_no_answer_and_no_command(
    chat: Chat,
) -> None:
    login_chat, homeserver = chat.login_chat, chat.stage.homeserver

    def grow_old() -> None:
        login_chat._talks[ALICE, chat.room].sign_in.touched_at -= IDLE_SECONDS + 1

    await login_chat.login(chat.call("$first"), ["near", "sasl"])
    await chat.expect("Account?")
    grow_old()
    assert not await login_chat.hear(chat.call("$help"), "help")
    await login_chat.login(chat.call("$second"), ["near", "sasl"])
    await chat.expect("Account?", 2)
    grow_old()
    login_chat._talks[ALICE, chat.room].sign_in.touched_at += 2  # Just in time.
    await chat.hear("$account", "alice")
    await chat.expect("Password?")
    grow_old()
    # That may be the password nevertheless.
    await chat.hear("$late", "hunter2")
    await chat.expect("I do not wait for that any more; say login again.")
    await homeserver.wait_until(
        lambda: any(one.parts[2:4] == ("redact", "$late") for one in homeserver.asked)
    )
    assert not login_chat._talks
    assert not await login_chat.hear(chat.call("$data"), "data")


async def test_what_is_no_answer_to_which_way_is_obeyed_and_taken_back_as_ever(
    chat: Chat,
) -> None:
    homeserver, bot = chat.stage.homeserver, chat.stage.app.parts.main_bot
    await chat.login_chat.login(chat.call("$login"), ["near"])
    await chat.expect("How do you sign in to near?")
    secrets = ("near join #den sesame", "join #den sesame", "autocommand msg NickServ identify pw")
    for number, body in enumerate(secrets):
        call = chat.call(f"$secret{number}", text=body)
        assert not await chat.login_chat.hear(call, body)
        await bot.obey(call, body)
    for body in ("near", "status", "disconnect", "what is that?"):
        assert not await chat.login_chat.hear(chat.call(f"${body}"), body)
    await homeserver.wait_until(
        lambda: (
            {one.parts[3] for one in homeserver.asked if "redact" in one.parts}
            >= {f"$secret{number}" for number in range(len(secrets))}
        )
    )
    await chat.hear("$wrong", "sesame")
    await chat.expect("That is no way to sign in to near.")
    await chat.hear("$right", "SASL")
    await chat.expect("Account?")


async def test_what_logins_there_are_is_told_to_nobody_else_and_each_link_is_sent(
    chat: Chat,
) -> None:
    main_bot, homeserver = chat.stage.app.parts.main_bot, chat.stage.homeserver
    for number, text in enumerate(("prefer 1", "logout", "sessions end all", "sessions fly")):
        await main_bot.obey(chat.call(f"${number}", ROOM, text), text)
    await chat.expect("I could not do that: you have no login.", 2)
    await chat.expect("Ended: 0.")
    await chat.expect("say !trestle sessions alone")
    await chat.expect("I wrote to you in our direct chat.", 4, ROOM)
    assert set(homeserver.texts(ROOM)) == {"I wrote to you in our direct chat."}
    links = iter(["https://m.example/link#1", "https://m.example/link#2"])

    async def make_link(person: UserId, purpose: str) -> str:
        return next(links)

    await main_bot.obey(chat.call("$own", text="logins"), "logins")
    await chat.expect("You have linked no account.")
    chat.guests = {"@carol:test.example"}
    await main_bot.obey(chat.call("$guest", text="logins"), "logins")
    await chat.expect("I wrote to you in our direct chat.")
    chat.guests = set()
    chat.login_chat.make_link = make_link
    for _ in range(2):
        await chat.login_chat.login(chat.call("$login"), ["near"])
    await chat.expect("https://m.example/link#1")
    await chat.expect("https://m.example/link#2")


async def test_what_was_done_is_said_and_not_done_again_where_that_could_not_be_stored(
    chat: Chat,
) -> None:
    parts, homeserver = chat.stage.app.parts, chat.stage.homeserver
    tokens = Tokens(parts.database, parts.house.audit)
    parts.stage.sender = cast(Any, Faltering(parts.stage.sender))
    # In its room it fails before what was done is said privately, and before the answer there.
    for room, tries in ((ROOM, 3), ("", 2)):
        await tokens.issue(ALICE, "manager")
        (session,) = await tokens.tokens_of(ALICE)
        text = f"sessions end {session.name}"
        for _ in range(tries - 1):
            with pytest.raises(TemporaryFailure):
                await parts.main_bot.obey(chat.call(f"$end {room}", room, text), text)
        await parts.main_bot.obey(chat.call(f"$end {room}", room, text), text)
    await chat.expect("That session has ended.", 2)
    await chat.expect("I wrote to you in our direct chat.", room=ROOM)
    assert homeserver.texts(chat.room) == ["That session has ended."] * 2
    assert homeserver.texts(ROOM) == ["I wrote to you in our direct chat."]


async def test_what_the_bot_has_to_tell_it_tells_when_the_homeserver_is_back(chat: Chat) -> None:
    parts, homeserver = chat.stage.app.parts, chat.stage.homeserver

    def asked() -> int:
        return sum("joined_members" in one.parts for one in homeserver.asked)

    def away(one: Asked) -> Answer | None:
        return refuse(502, "M_UNKNOWN") if "joined_members" in one.parts else None

    await wait_until(lambda: parts.introduced)
    homeserver.rules.insert(0, away)
    row = LoginRow(id=LoginId(7), instance=NEAR, kind=LoginKind.PERSON, owner=ALICE, name="alix")
    for _ in range(2):
        parts.logins._note_state(row, LoginState.SIGN_IN_NEEDED, "it says no.")
    tokens = Tokens(parts.database, parts.house.audit)
    await tokens.issue(ALICE, "manager")
    (session,) = await tokens.tokens_of(ALICE)
    parts.main_bot.sessions.begun(session)
    before = asked()
    await homeserver.wait_until(lambda: asked() >= before + 4)
    homeserver.rules.remove(away)
    await chat.expect("Your login alix on near needs you to sign in again: it says no. Say")
    await chat.expect(f"as session {session.name}")
    assert sum("needs you to sign in" in text for text in homeserver.texts(chat.room)) == 1
    await wait_until(lambda: not parts.logins._telling)
