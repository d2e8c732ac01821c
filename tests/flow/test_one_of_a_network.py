"""A room has one chat of a network; where there are two from before, each can be named."""

import asyncio

import pytest

from bridge.app import App
from bridge.core.traffic.doorway import Doorway
from bridge.demo.matrix_user import MatrixUser
from bridge.model import Uncertain
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId, RoomId, UserId
from tests.flow.chats import order
from tests.flow.networks import NEAR, Modules, connected, irc_module
from tests.flow.rooms import BOT, bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town


@pytest.fixture
def modules(irc: IrcServer) -> Modules:
    """Two networks, ``near`` and ``far``, by one server."""
    near = irc_module(irc)
    return {**near, "far": near["near"]}


async def tie(app: App, name: str, room: str, by: MatrixUser) -> None:
    """Tie a room to a channel as was done before it was refused."""
    chat = RemoteChat(id=RemoteChatId(name), name=name)
    await app.parts.portals.add(
        instance=NEAR, chat=chat, room=RoomId(room), created_by=UserId(by.id)
    )


async def test_a_second_chat_of_a_network_is_refused_and_one_of_another_network_is_not(
    town: Town, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#first")
    await alice.say(room, "!trestle bridge near #more")
    await alice.wait_for_text(
        room, "bridged to #first on near already, and it can have one chat of a network: "
        "say !trestle unbridge near #first there first, or !trestle bridge near #more in another "
        "room",
    )  # fmt: skip
    await alice.say(room, "!trestle bridge far #more")
    await alice.wait_for_text(room, "This room is bridged to #more on far.")
    again = "This room is bridged to #first on near."
    await order(alice, room, "!trestle bridge near #first", again)
    await alice.say(room, "!trestle unbridge near #more")
    await alice.wait_for_text(room, "this room is not bridged there")
    await alice.say(room, "!trestle unbridge near #first")
    await alice.wait_for_text(room, "#first on near is no longer bridged here.")
    await alice.say(room, "!trestle bridge near #more")
    await alice.wait_for_text(room, "This room is bridged to #more on near.")


async def test_of_two_chats_that_a_room_has_from_before_each_can_be_named_and_ended(
    town: Town, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#one")
    await tie(app, "#two", room, alice)
    await alice.say(room, "!trestle unbridge near")
    await alice.wait_for_text(room, "several bridges; name one: near #one, near #two")
    await alice.say(room, "!trestle pause near #TWO")
    await alice.wait_for_text(room, "to or from #two until you say !trestle resume.")
    await alice.say(room, "!trestle set near #two uncertain hold")
    await alice.wait_for_text(room, "uncertain is hold for #two on near now.")
    one, two = app.parts.portals.in_room(RoomId(room))
    assert [door.portal.paused for door in (one, two)] == [False, True]
    assert [door.portal.uncertain for door in (one, two)] == [Uncertain.RESEND, Uncertain.HOLD]
    several = "several bridges; name one: near #one, near #two"
    await order(alice, room, "!trestle set near uncertain", several)
    await alice.say(room, "!trestle near names")
    await alice.wait_for_text(room, "end all but one of them: !trestle unbridge near #two")
    await alice.say(room, "!trestle unbridge near #two")
    await alice.wait_for_text(room, "#two on near is no longer bridged here.")
    assert app.parts.portals.in_room(RoomId(room)) == [one]


async def test_a_bridge_does_not_go_along_into_a_room_that_has_another_chat_of_its_network(
    town: Town, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#old", version="10")
    upgraded = await alice.create_room(
        preset="public_chat", creation_content={"predecessor": {"room_id": room}}
    )
    await alice.invite(upgraded, BOT)
    await alice.wait_until_joined(upgraded, BOT)
    await alice.say(upgraded, "!trestle bridge near #new")
    await alice.wait_for_text(upgraded, "This room is bridged to #new on near.")
    await alice.set_state(room, "m.room.tombstone", {"replacement_room": upgraded})
    await alice.wait_for_text(room, "stays here: the room is bridged to #new on near already")


async def test_of_two_rooms_that_are_tied_to_a_chat_at_once_one_is_and_what_is_said_comes_there(
    town: Town, app: App, irc: IrcServer
) -> None:
    alice, near = await town.person("alice"), app.parts.instances[NEAR]
    await connected(near)
    chat = RemoteChat(id=RemoteChatId("#race"), name="#race")
    rooms = [RoomId(await alice.create_room(preset="public_chat")) for _ in range(2)]
    for room in rooms:
        await alice.invite(room, app.parts.namespaces.bot)
        await alice.wait_until_joined(room, app.parts.namespaces.bot)
    found: list[Doorway | str] = []

    async def tie_it(room: RoomId) -> None:
        try:
            found.append(await app.parts.plumbing.tie(near, chat, room, UserId(alice.id)))
        except PermanentFailure as error:
            found.append(str(error))

    async with irc_user(irc.port, "carl") as carl, asyncio.TaskGroup() as both:
        await carl.join("#race")
        for room in rooms:
            both.create_task(tie_it(room))
        await carl.expect("JOIN", "#race")
        carl.say("PRIVMSG #race :which of you")
    (door,) = (one for one in found if isinstance(one, Doorway))
    refusals = [one for one in found if isinstance(one, str)]
    assert refusals == ["#race on near is bridged to another room"]
    await alice.wait_for_text(door.portal.room, "which of you")
