"""What is so already is not done again: it would cost the homeserver more than us."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bridge.matrix.client import HomeserverAway, HomeserverClient
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import (
    Answer,
    Asked,
    Rule,
    ScriptedHomeserver,
    refuse,
    scripted_homeserver,
)

GHOST = UserId("@_trestle_irc_carl:test.example")
LEAVE = {"membership": "leave"}
NAMESPACES = Namespaces(server_name="test.example", sender_localpart="x")


async def no_device(user: UserId) -> str:
    return ""


@asynccontextmanager
async def at_work(*rules: Rule) -> AsyncIterator[tuple[ScriptedHomeserver, Intents]]:
    """Have a homeserver with these rules, and what we do there."""
    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules += rules
        yield homeserver, Intents(client, NAMESPACES, device_of=no_device)


async def asked_by_a_new_process(homeserver: ScriptedHomeserver, name: str) -> Sequence[str]:
    """What a process that knows nothing yet asks, to have the ghost called so."""
    before = len(homeserver.asked)
    async with HomeserverClient(homeserver.url, Secret("token")) as client:
        intents = Intents(client, NAMESPACES, device_of=no_device)
        for _ in range(2):
            await intents.ensure_registered(GHOST, name)
    assert homeserver.names[GHOST] == name
    return [f"{asked.method} {asked.parts[-1]}" for asked in homeserver.asked[before:]]


async def test_a_name_is_set_when_it_is_another_and_not_at_each_start() -> None:
    register, ask, change = "POST register", "GET displayname", "PUT displayname"
    async with scripted_homeserver() as homeserver:
        assert await asked_by_a_new_process(homeserver, "Carl") == [register, change]
        assert await asked_by_a_new_process(homeserver, "Carl") == [register, ask]
        assert await asked_by_a_new_process(homeserver, "Karl") == [register, ask, change]


class Forgetful:
    """What a homeserver says that is an older copy of itself: of each user, as of each device."""

    def __init__(self, homeserver: ScriptedHomeserver) -> None:
        self._homeserver = homeserver
        self.devices: set[str] = set()

    def __call__(self, asked: Asked) -> Answer | None:
        """Refuse whom it does not know."""
        if asked.user and asked.user not in self._homeserver.users:
            return refuse(403, "M_FORBIDDEN")
        if asked.parts[:1] == ("devices",):
            self.devices.add(asked.user)
        elif "device_id" in asked.query and asked.user not in self.devices:
            return refuse(400, "M_UNKNOWN_DEVICE")
        if (
            asked.parts[2:3] == ("send",)
            and asked.user not in self._homeserver.rooms[asked.parts[1]]
        ):
            return refuse(403, "M_FORBIDDEN")
        return None

    def restore(self) -> None:
        """Have it know nobody any more."""
        for known in (self.devices, self._homeserver.users, self._homeserver.rooms):
            known.clear()


def say(text: str, room: str) -> Outgoing:
    return Outgoing(
        room=RoomId(room), user=GHOST, kind=SendKind.EVENT, type="m.room.message", name="Carl",
        content={"body": text}, transaction_id=text,
    )  # fmt: skip


async def test_whom_a_homeserver_has_forgotten_is_there_again_for_what_comes_next() -> None:
    async with at_work() as (homeserver, intents):
        old = Forgetful(homeserver)
        homeserver.rules.append(old)
        homeserver.users.add(NAMESPACES.bot)
        for text, room in (("one", "!a"), ("two", "!a"), ("three", "!b")):
            assert await intents.send(say(text, room))
            old.restore()
            homeserver.users.add(NAMESPACES.bot)
        assert [said.text for said in homeserver.said] == ["one", "two", "three"]
        intents.doubt()
        asked = len(homeserver.asked)
        await intents.ensure_joined(RoomId("!b"), GHOST, "Carl")
        assert GHOST in homeserver.users & homeserver.rooms["!b"]
        assert len(homeserver.asked) > asked
        # Who is not let in is not tried again and again.
        homeserver.rules.append(
            lambda one: refuse(403, "M_FORBIDDEN") if "join" in one.parts else None
        )
        asked = len(homeserver.asked)
        with pytest.raises(PermanentFailure):
            await intents.ensure_joined(RoomId("!c"), GHOST)
        assert len(homeserver.asked) - asked < 10


async def test_a_name_asked_for_in_vain_is_asked_for_again_but_not_with_each_message() -> None:
    room, ann, bob = RoomId("!a"), UserId("@ann:test.example"), UserId("@bob:test.example")

    def tell_name(asked: Asked) -> Answer:
        return Answer(content={"displayname": asked.parts[-1][1:4].title()})

    async with at_work() as (homeserver, intents):
        homeserver.rules[:] = [
            lambda asked: refuse(502, "M_UNKNOWN") if asked.parts[1] == room else None, tell_name,
        ]  # fmt: skip
        for _ in range(3):
            assert await intents.display_name(ann, room) == "ann"
            assert await intents.display_name(bob, room) == "bob"
        assert len(homeserver.asked) == 1
        # That it does not answer for one room says nothing of another.
        assert await intents.display_name(ann, RoomId("!b")) == "Ann"
        homeserver.rules[:] = [tell_name]
        homeserver.asked.clear()
        intents.doubt()
        for _ in range(3):
            assert await intents.display_name(ann, room) == "Ann"
            assert await intents.display_name(bob, room) == "Bob"
        assert len(homeserver.asked) == 2
        # A refusal is an answer.
        homeserver.rules[:] = [lambda asked: refuse(400, "M_INVALID_PARAM")]
        for _ in range(3):
            assert await intents.display_name(UserId("@carl:test.example"), room) == "carl"
        assert len(homeserver.asked) == 3


async def test_a_bot_that_was_put_out_does_not_come_back_though_nobody_told_us() -> None:
    bot, room = NAMESPACES.bot, RoomId("!a")

    def tell_kick(asked: Asked) -> Answer | None:
        if asked.parts[2:4] == ("state", "m.room.member"):
            return Answer(content={"sender": "@alice:test.example", "content": LEAVE})
        is_said = asked.parts[2:3] == ("send",)
        return refuse(403, "M_FORBIDDEN") if is_said else None

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.users.add(bot)

        async def come_in() -> Intents:
            homeserver.rules.clear()
            intents = Intents(client, NAMESPACES, device_of=no_device)
            await intents.ensure_joined(room, bot)
            intents.note_member({
                "type": "m.room.member", "room_id": room, "sender": bot, "state_key": bot,
                "content": {"membership": "join"},
            })  # fmt: skip
            homeserver.rules.append(tell_kick)
            homeserver.asked.clear()
            return intents

        # The homeserver was killed before it said so; or it says so a moment later.
        intents = await come_in()
        intents.doubt()
        with pytest.raises(PermanentFailure, match="was put out"):
            await intents.send(replace(say("one", room), user=bot))
        assert intents.evictions.is_out(room, bot)
        intents = await come_in()
        with pytest.raises(PermanentFailure, match="was put out"):
            await intents.send(replace(say("two", room), user=bot))
        assert not homeserver.of("POST", "rooms", room, "join")


async def test_a_name_that_is_heard_while_the_old_one_is_asked_for_is_kept() -> None:
    room, ann = RoomId("!a"), UserId("@ann:test.example")

    def change_after_the_answer(asked: Asked) -> Answer | None:
        if asked.parts[2:4] != ("state", "m.room.member"):
            return None
        content = {"membership": "join", "displayname": "Anna"}
        intents.note_member({"room_id": room, "state_key": ann, "content": content})
        return Answer(content={**content, "displayname": "Ann"})

    async with at_work(change_after_the_answer) as (_, intents):
        for _ in range(2):
            assert await intents.display_name(ann, room) == "Anna"


async def test_a_room_without_an_id_is_no_room_of_ours() -> None:
    def rule(asked: Asked) -> Answer | None:
        return Answer() if {"join", "createRoom"} & {*asked.parts} else None

    async with at_work(rule) as (_, intents):
        with pytest.raises(HomeserverAway):
            await intents.create_room(GHOST)
        with pytest.raises(HomeserverAway):
            await intents.enter("#a:test.example", GHOST)


@pytest.mark.parametrize(
    ("where", "do"),
    [
        ("register", lambda intents: intents.send(say("hello", "!a"))),
        ("join", lambda intents: intents.send(say("hello", "!a"))),
        ("send", lambda intents: intents.send(say("hello", "!a"))),
        ("join", lambda intents: intents.enter("#a:test.example", GHOST)),
        ("createRoom", lambda intents: intents.create_room(GHOST)),
        ("directory", lambda intents: intents.put_alias("#a:test.example", RoomId("!a"))),
    ],
)
async def test_a_homeserver_that_does_not_know_us_at_all_refuses_nothing_for_good(
    where: str, do: Callable[[Intents], Awaitable[object]]
) -> None:
    def rule(asked: Asked) -> Answer | None:
        return refuse(401, "M_UNKNOWN_TOKEN") if where in asked.parts else None

    async with at_work(rule) as (_, intents):
        with pytest.raises(TemporaryFailure):
            await do(intents)


async def test_another_servers_401_that_is_handed_through_refuses_the_room_for_good() -> None:
    def rule(asked: Asked) -> Answer | None:
        return refuse(401, "M_UNAUTHORIZED") if "join" in asked.parts else None

    async with at_work(rule) as (_, intents):
        with pytest.raises(PermanentFailure):
            await intents.enter("#a:far.example", GHOST)


async def test_a_name_is_not_known_because_the_homeserver_does_not_know_us() -> None:
    room, ann = RoomId("!a"), UserId("@ann:test.example")
    answers = [refuse(401, "M_UNKNOWN_TOKEN"), Answer(content={"displayname": "Ann"})]

    def rule(asked: Asked) -> Answer | None:
        return answers.pop(0) if asked.parts[2:3] == ("state",) else None

    async with at_work(rule) as (_, intents):
        assert await intents.display_name(ann, room) == "ann"
        intents.doubt()  # It is another by now.
        assert await intents.display_name(ann, room) == "Ann"


async def test_whether_it_may_be_said_is_asked_anew_when_whoever_says_it_had_to_come_in() -> None:
    """Also where a person's own account was to say it and cannot, or a ghost had been lost."""
    came: list[tuple[str, bool]] = []

    async def note(outgoing: Outgoing) -> None:
        came.append((outgoing.transaction_id, GHOST in homeserver.rooms[outgoing.room]))
        if outgoing.transaction_id == "held":
            raise TemporaryFailure("somebody came to read")

    async def cannot(outgoing: Outgoing) -> None:
        return None

    async with at_work() as (homeserver, intents):
        homeserver.rules.append(Forgetful(homeserver))
        homeserver.users.add(NAMESPACES.bot)
        intents.on_came_in, intents._as_double = note, cannot
        with pytest.raises(TemporaryFailure, match="came to read"):
            await intents.send(say("held", "!a"))
        for text, room in (("one", "!a"), ("held", "!a"), ("two", "!a"), ("other", "!b")):
            await intents.send(say(text, room))
        await intents.send(replace(say("double", "!c"), double=UserId("@ann:test.example")))
        homeserver.rooms["!a"].discard(GHOST)
        await intents.send(say("lost", "!a"))
        assert came == [("held", True), ("other", True), ("double", True), ("lost", True)]
        said = [one.text for one in homeserver.said]
        assert said == ["one", "held", "two", "other", "double", "lost"]
