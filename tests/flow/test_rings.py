"""Bridges in a ring, ours among them twice: it is stopped, and people are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from tests.flow.networks import Modules, irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town

LEFT_OUT = "This was not sent to #two on far"
ALERT = "disk /var of db1.example is 97 percent full, 3 GB left"


@pytest.fixture
def modules(irc: IrcServer) -> Modules:
    """Two networks, ``near`` and ``far``, by one server."""
    near = irc_module(irc)
    return {**near, "far": near["near"]}


async def in_both(person: MatrixUser) -> str:
    """A room that is bridged to ``#one`` on near and to ``#two`` on far."""
    room = await bridge(person, "#one")
    await person.say(room, "!trestle bridge far #two")
    await person.wait_for_text(room, "This room is bridged to #two on far.")
    return room


class Relay:
    """A bridge of others: it carries what is said in ``#two`` into ``#one``."""

    def __init__(self, user: IrcUser) -> None:
        self._user = user
        self.carried: list[str] = []

    async def run(self) -> None:
        """Carry each line with the name of who says it before. Runs until cancelled."""
        while True:
            line = await self._user.read()
            prefix, _, rest = line.removeprefix(":").partition(" ")
            if rest.startswith("PRIVMSG #two "):
                text = rest.partition(" :")[2]
                self.carried.append(text)
                self._user.say(f"PRIVMSG #one :<{prefix.partition('!')[0]}> {text}")


@asynccontextmanager
async def relay_between(irc: IrcServer) -> AsyncIterator[Relay]:
    async with irc_user(irc.port, "carrier") as user, asyncio.TaskGroup() as group:
        for channel in ("#one", "#two"):
            await user.join(channel)
        relay = Relay(user)
        task = group.create_task(relay.run())
        yield relay
        task.cancel()


async def troubles(app: App) -> dict[str, dict[str, str]]:
    """By instance the chats in trouble, as the status room has them."""
    look = await app.parts.status.look()
    return {one["name"]: one["chats_in_trouble"] for one in look["instances"]}


async def test_a_ring_with_ours_twice_ends_after_two_laps_and_the_room_is_told_once(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await in_both(alice)
    assert await troubles(app) == {"near": {}, "far": {}}
    async with relay_between(irc) as relay:
        await alice.say(room, "good morning to all of you")
        told = await alice.wait_for_text(room, LEFT_OUT)
        # The second lap ends where it would leave the room again.
        assert len(relay.carried) == 2, relay.carried
        # Another one goes round as often, and nobody is told of it.
        await alice.say(room, "and a good evening")
        await alice.wait_until(
            lambda: sum(
                "and a good evening" in str(one["content"]["body"]) for one in alice.heard(room)
            ) >= 3
        )  # fmt: skip
        await alice.say(room, "the end")
        async with asyncio.timeout(PATIENCE):
            while "the end" not in " ".join(relay.carried):
                await alice.sync()
    notices = [one for one in alice.heard(room) if LEFT_OUT in str(one["content"]["body"])]
    assert [one["event_id"] for one in notices] == [told["event_id"]]
    found = await troubles(app)
    assert found["near"] == {}
    assert "comes back through other bridges" in found["far"]["#two"]


async def test_an_alert_that_is_said_again_and_again_is_left_out_and_its_room_knows(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await in_both(alice)
    async with irc_user(irc.port, "watcher") as watcher, irc_user(irc.port, "feed") as feed:
        await watcher.join("#two")
        await feed.join("#one")
        for _ in range(8):
            feed.say(f"PRIVMSG #one :{ALERT}")
        await feed.sync()
        told = await alice.wait_for_text(room, LEFT_OUT)
        about = told["content"]["m.relates_to"]["m.in_reply_to"]["event_id"]
        (first,) = [one for one in alice.heard(room) if one["event_id"] == about]
        assert first["content"]["body"] == ALERT
        # Whoever speaks now is heard behind all of that.
        await alice.say(room, "we have seen it")
        await watcher.expect("PRIVMSG #two", "we have seen it")
        assert sum(ALERT in line for line in watcher.heard) == 5
    assert "#two" in (await troubles(app))["far"]
