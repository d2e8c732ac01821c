"""What either side does about messages of a room that its bridge has left."""

from dataclasses import dataclass

import pytest

from bridge import sdk
from bridge.app import App
from bridge.demo.matrix_user import Event, MatrixUser
from bridge.settings.records import Settings
from tests.flow.networks import Modules
from tests.flow.rooms import BOT, bridge, ghost, give_power, redact
from tests.rigs.trestle import Town, running, wait_until
from tests.rigs.vivid_bridge import Vivid, person

HALL = sdk.RemoteChatId("hall")
CARL = ghost("carl")


@pytest.fixture
def modules(vivid: Vivid) -> Modules:
    """The network that can do all there is."""
    return {"near": ("vivid", {})}


@dataclass
class Rooms:
    """A room that was replaced by another, and what was said in it before."""

    alice: MatrixUser
    old: str
    new: str
    said: dict[str, Event]

    async def is_gone(self, text: str) -> bool:
        """Whether what was said in the old room was taken back there."""
        event_id = self.said[text]["event_id"]
        event = await self.alice.call("GET", f"v3/rooms/{self.old}/event/{event_id}")
        return not event["content"]

    def heard(self) -> list[Event]:
        """What the ghost has said in the new one."""
        return [one["content"] for one in self.alice.heard(self.new, CARL)]


async def move(alice: MatrixUser, vivid: Vivid, *, power: int) -> Rooms:
    """Have the room replaced, in which alice said ``v1`` and ``v2``, and carl ``c1``."""
    old = await bridge(alice, "hall", version="10")
    await give_power(alice, old, {BOT: power})
    for name in ("v1", "v2"):
        await alice.say(old, name)
        await vivid.wait_until(lambda network, name=name: name in network.texts())  # type: ignore[misc]
    await vivid.receive(vivid.message("Carl", "c1", "c1"))
    said = {name: await alice.wait_for_text(old, name) for name in ("v1", "v2", "c1")}
    upgraded = await alice.call("POST", f"v3/rooms/{old}/upgrade", {"new_version": "11"})
    new = str(upgraded["replacement_room"])
    await alice.wait_for_text(new, "The bridge to hall on near has moved here.")
    return Rooms(alice, old, new, said)


async def take_back(vivid: Vivid, target: str) -> None:
    """Have something taken back on the network."""
    await vivid.receive(sdk.RemoteRedaction(
        chat=HALL, target=sdk.RemoteMessageId(target), sender=person("Carl")
    ))  # fmt: skip


async def edit(vivid: Vivid, target: str, text: str) -> None:
    """Have something said in other words."""
    assert vivid.relay is not None
    await vivid.receive(sdk.RemoteEdit(
        chat=HALL, id=sdk.RemoteMessageId(text), target=sdk.RemoteMessageId(target),
        sender=person("Carl"), kind=sdk.MessageKind.TEXT, body=sdk.Rich.plain(text),
        at=vivid.relay.now(),
    ))  # fmt: skip


async def test_what_people_said_before_their_room_was_replaced_is_taken_back_where_it_is(
    app: App, alice: MatrixUser, vivid: Vivid
) -> None:
    rooms = await move(alice, vivid, power=100)
    await vivid.receive(sdk.RemoteReaction(
        chat=HALL, id=sdk.RemoteMessageId("r"), key="+1", target=sdk.RemoteMessageId("v1"),
        sender=person("Carl"),
    ))  # fmt: skip
    answer = vivid.message("Carl", "a", "an answer", reply_to=sdk.RemoteMessageId("v1"))
    await vivid.receive(answer)
    await take_back(vivid, "v2")
    await vivid.receive(vivid.message("Carl", "l", "the last"))
    await alice.wait_for_text(rooms.new, "the last")
    await wait_until(lambda: not app.parts.sender.holding())
    assert [one["body"] for one in rooms.heard()] == ["an answer", "the last"]
    assert not any("m.relates_to" in one for one in rooms.heard())
    assert not any(one["type"] == "m.reaction" for one in alice.events)
    assert [await rooms.is_gone(text) for text in ("v1", "v2", "c1")] == [False, True, False]
    assert not app.parts.telemetry.parked.labels(reason="refused")._value.get()


async def test_what_the_bot_may_not_take_back_in_the_old_room_is_put_aside_and_all_else_is_done(
    app: App, alice: MatrixUser, vivid: Vivid
) -> None:
    rooms = await move(alice, vivid, power=0)
    await edit(vivid, "c1", "in other words")
    found = await alice.wait_for_text(rooms.new, "in other words")
    await take_back(vivid, "c1")
    await vivid.receive(vivid.message("Carl", "l", "the last"))
    await alice.wait_for_text(rooms.new, "the last")
    await wait_until(lambda: not app.parts.sender.holding())
    event = await alice.call("GET", f"v3/rooms/{rooms.new}/event/{found['event_id']}")
    assert not event["content"]
    assert not await rooms.is_gone("c1")
    rows = await app.parts.database.core.fetch("SELECT room FROM outbox WHERE state = 'parked'")
    assert [row["room"] for row in rows] == [rooms.old]
    assert CARL not in await alice.members(rooms.old)


def taken_back(vivid: Vivid) -> list[tuple[str, bool, tuple[str, ...]]]:
    """What Matrix people took back on the network: who, whether it was their own, and what."""
    return [
        (one.sender.user_id, one.is_own, one.targets)
        for one in vivid.done if isinstance(one, sdk.Redaction)
    ]  # fmt: skip


async def test_what_people_delete_in_a_room_that_was_left_is_taken_back_once_after_restarts_too(
    town: Town, settings: Settings, vivid: Vivid
) -> None:
    alice, bob = await town.person("alice"), await town.person("bob")
    async with running(settings):
        rooms = await move(alice, vivid, power=100)
        ids = {text: event["event_id"] for text, event in rooms.said.items()}
        await bob.join(rooms.old)
        await give_power(alice, rooms.old, {bob.id: 50})
        await redact(alice, rooms.old, ids["v1"])
        await vivid.wait_until(lambda network: taken_back(network) == [(alice.id, True, ("v1",))])
        # It comes in the order of what is said in the new room.
        vivid.is_swift.clear()
        await alice.say(rooms.new, "slow")
        await vivid.wait_until(lambda network: network.waits)
        await redact(alice, rooms.old, ids["c1"])
        await alice.say(rooms.new, "after it")
        vivid.is_swift.set()
        await vivid.wait_until(lambda network: network.texts()[-1] == "after it")
        assert taken_back(vivid)[1:] == [(alice.id, False, ("c1",))]
        kinds = [type(one) for one in vivid.done[-3:]]
        assert kinds == [sdk.Message, sdk.Redaction, sdk.Message]
    await redact(bob, rooms.old, ids["v2"])
    async with running(settings) as app:
        await vivid.wait_until(lambda network: len(taken_back(network)) == 3)
        assert taken_back(vivid)[2] == (bob.id, False, ("v2",))
        # What is said in the old room, or changed there, is no more for the chat.
        late = await alice.say(rooms.old, "too late")
        await redact(alice, rooms.old, late)
        await alice.say(rooms.new, "the last")
        await vivid.wait_until(lambda network: network.texts()[-1] == "the last")
        assert len(taken_back(vivid)) == 3
        assert "too late" not in vivid.texts()

        await alice.say(rooms.new, "!trestle unbridge near hall")
        await wait_until(lambda: not app.parts.portals.all)
        assert not app.parts.portals.of({"type": "m.room.redaction", "room_id": rooms.old})
