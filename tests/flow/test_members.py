"""Who of a channel is shown in a room: everybody, who has spoken, or nobody; by choice, live."""

from pathlib import Path

from bridge.app import App
from bridge.core.traffic.doorway import Doorway
from bridge.demo.matrix_user import Event, MatrixUser
from bridge.model import InstanceRules
from bridge.sdk.events import RemoteMembers, RemoteUser
from bridge.sdk.ids import RemoteUserId
from bridge.settings.records import DatabaseSettings
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import BOT, bridge, joined
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running


async def choose(person: MatrixUser, room: str, members: str) -> None:
    def answers() -> int:
        said = [str(one["content"].get("body")) for one in person.heard(room, BOT)]
        return sum(f"members is {members}" in text for text in said)

    before = answers()
    await person.say(room, f"!trestle set members {members}")
    await person.wait_until(lambda: answers() > before)


def joins_of(events: list[Event], nick: str) -> int:
    """How many times a ghost came in."""
    return sum(
        one["type"] == "m.room.member" and one["content"]["membership"] == "join"
        and one["state_key"] == f"@_trestle_near_{nick}:test.example"
        for one in events
    )  # fmt: skip


async def test_who_is_shown_is_chosen_for_each_room_and_changes_at_once(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "dora") as dora,
    ):
        await carl.join("#who")
        await dora.join("#who")
        # As it is where the settings say nothing.
        modules = make_modules(irc_module(irc), {NEAR: InstanceRules()})
        settings = town.settings_for(folder, database_settings, modules=modules)
        alice = await town.person("alice")
        async with running(settings):
            room = await bridge(alice, "#who")
            carl.say("PRIVMSG #who :I speak")
            await alice.wait_for_text(room, "I speak")
            assert joined(alice, room) == {"carl"}
            await choose(alice, room, "full")
            await alice.wait_until(lambda: joined(alice, room) == {"carl", "dora"})
            await _nobody(alice, room, carl)
            await choose(alice, room, "speakers")
            dora.say("PRIVMSG #who :and I")
            said = await alice.wait_for_text(room, "and I")
            assert said["sender"] == "@_trestle_near_dora:test.example"
            await alice.wait_until(lambda: joined(alice, room) == {"dora"})
            await choose(alice, room, "full")
            await alice.wait_until(lambda: joined(alice, room) == {"carl", "dora"})
            before = [joins_of(await alice.messages(room), one) for one in ("carl", "dora")]
        # Who is in there does not come in once more.
        async with running(settings) as app:
            dora.say("PART #who")
            await alice.wait_until(lambda: joined(alice, room) == {"carl"})
            (door,) = app.parts.portals.all
            assert door.arrivals.attendance.waiting == 0
            after = [joins_of(await alice.messages(room), one) for one in ("carl", "dora")]
            assert after == before
            await _many(app, alice, room, door)


async def _nobody(alice: MatrixUser, room: str, carl: IrcUser) -> None:
    """The bot says it in their names, and no ghost is there."""
    await choose(alice, room, "none")
    await alice.wait_until(lambda: not joined(alice, room))
    carl.say("PRIVMSG #who :by another's mouth")
    said = await alice.wait_for_text(room, "by another's mouth")
    assert said["sender"] == BOT
    assert said["content"]["body"] == "carl: by another's mouth"
    profile = said["content"]["com.beeper.per_message_profile"]
    assert (profile["id"], profile["displayname"]) == ("carl", "carl")
    assert not joined(alice, room)


async def _many(app: App, alice: MatrixUser, room: str, door: Doorway) -> None:
    """Hundreds come slowly, who spoke last before others, and no longer than they are wanted."""
    relay = app.parts.instances[NEAR].relay
    assert relay is not None
    people = tuple(RemoteUser(id=RemoteUserId(f"p{n}"), name=f"p{n}") for n in range(300))
    carl = RemoteUser(id=RemoteUserId("carl"), name="carl")
    await app.parts.portals.receive(
        NEAR, relay.row, RemoteMembers(chat=door.portal.chat, users=(*people, carl))
    )
    attendance = door.arrivals.attendance
    await alice.wait_until(lambda: len(joined(alice, room)) >= 3)
    assert attendance.waiting > 250
    await choose(alice, room, "none")
    assert attendance.waiting < 50
    await alice.wait_until(lambda: not joined(alice, room))
    assert attendance.waiting == 0
