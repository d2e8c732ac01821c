"""Whoever meets a bot in an encrypted room is led to a chat that it can read."""

from pathlib import Path

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.model import ParkReason
from bridge.sdk.ids import RoomId
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.channels import nick_of
from tests.flow.rooms import BOT, bridge, ghost, invitation
from tests.rigs.irc_user import IrcUser
from tests.rigs.trestle import Town, running, wait_until

OVER = "is no longer bridged to Matrix: the room there was made encrypted"
SECRET = {"algorithm": "m.megolm.v1.aes-sha2"}
ENCRYPTION = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": SECRET,
}


async def test_an_encrypted_direct_chat_ends_in_a_working_help(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with running(town.settings_for(folder, database_settings)):
        alice = await town.person("alice")
        secret = await secret_chat(alice)
        await alice.wait_until(lambda: bool(alice.invitations))
        (open_chat,) = alice.invitations
        await alice.join(open_chat)
        await alice.wait_for_text(open_chat, "not encrypted")
        await alice.say(open_chat, "help")
        await alice.wait_for_text(open_chat, "I bridge rooms")
        await alice.send(secret, SECRET, "m.room.encrypted")
        await alice.say(open_chat, "ping")
        await alice.wait_for_text(open_chat, "I am here")
        held = await alice.messages(secret)
    assert not alice.invitations
    said = [e for e in held if e["sender"] == BOT]
    assert {e["type"] for e in said} == {"m.room.member"}


async def secret_chat(person: MatrixUser) -> str:
    """Open an encrypted direct chat with the bot, which comes."""
    chat = await person.create_room(
        preset="trusted_private_chat", is_direct=True, invite=[BOT], initial_state=[ENCRYPTION]
    )
    await person.wait_until_joined(chat, BOT)
    return chat


async def test_who_has_left_the_chat_that_the_bot_can_read_is_invited_to_one_again(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with running(town.settings_for(folder, database_settings)):
        alice = await town.person("alice")
        first = await secret_chat(alice)
        await alice.wait_until(lambda: len(alice.invitations) == 1)
        (open_chat,) = alice.invitations
        await alice.join(open_chat)
        await alice.wait_for_text(open_chat, "not encrypted")
        # Who is there needs no other.
        other = await secret_chat(alice)
        await alice.say(open_chat, "ping")
        await alice.wait_for_text(open_chat, "I am here")
        assert not alice.invitations
        for room in (first, other, open_chat):
            await alice.leave(room)
        second = await secret_chat(alice)
        await alice.wait_until(lambda: len(alice.invitations) == 1)
        (declined,) = alice.invitations
        await alice.leave(declined)
        # Once for each encrypted chat: it does not ask again there.
        for _ in range(3):
            await alice.send(second, SECRET, "m.room.encrypted")
        await secret_chat(alice)
        await alice.wait_until(lambda: len(set(alice.invitations) - {declined}) == 1)
        (last,) = set(alice.invitations) - {declined}
        await alice.join(last)
        await alice.wait_for_text(last, "not encrypted")


async def end_by_encryption(alice: MatrixUser, room: str, carl: IrcUser) -> None:
    """Make a bridged room encrypted; the channel is told, and the relay goes."""
    await alice.set_state(room, "m.room.encryption", SECRET)
    await carl.expect("#door", OVER)
    await carl.expect("PART #door")


async def check_ended(app: App, room: str) -> None:
    """Nothing of the bridge is left, and who runs this sees why."""
    await wait_until(lambda: not app.parts.portals.all)
    await wait_until(lambda: bool(app.parts.encrypted_rooms.troubles()))
    (said,) = app.parts.encrypted_rooms.troubles().values()
    assert said.startswith(f"{room} was made encrypted, which cannot be undone: its bridge to")
    look = await app.parts.status.look()
    assert list(look["encrypted"].values()) == [said]
    # What was on its way into the room has no key; nothing else is put aside.
    assert set(look["parked"]) <= {ParkReason.NO_KEY.value}


async def test_a_bridge_ends_when_its_room_becomes_encrypted_and_everybody_is_told_once(
    town: Town, settings: Settings, alice: MatrixUser, carl: IrcUser
) -> None:
    bob = await town.person("bob")
    await carl.join("#door")
    async with running(settings) as app:
        room = await bridge(alice, "#door")
        await bob.join(room)
        await alice.say(room, "first")
        await carl.expect("PRIVMSG #door :first")
        await end_by_encryption(alice, room, carl)
        await alice.wait_until(lambda: bool(alice.invitations))
        (chat,) = alice.invitations
        await alice.join(chat)
        await alice.wait_for_text(chat, f"{room}) to #door on near has ended")
        await check_ended(app, room)
        await bob.send(room, SECRET, "m.room.encrypted")
        await bob.wait_until(lambda: bool(bob.invitations))
        (bobs,) = bob.invitations
        await bob.join(bobs)
        await bob.wait_for_text(bobs, f"I cannot read what is said in {room}")
        again = await bridge(alice, "#door")
        assert not app.parts.encrypted_rooms.troubles()
    # It is as well if it becomes so while nobody of us is there.
    await alice.set_state(again, "m.room.encryption", SECRET)
    async with running(settings) as app:
        await carl.expect("#door", OVER)
        await alice.wait_for_text(chat, f"{again}) to #door on near has ended")
        await check_ended(app, again)
    async with running(settings) as app:
        await alice.say(chat, "ping")
        await alice.wait_for_text(chat, "I am here")
        assert not app.parts.portals.all
    told = [str(e["content"].get("body")) for e in alice.heard(chat)]
    assert sum("has ended" in text for text in told) == 2


async def test_a_bridge_stays_whose_room_is_called_encrypted_and_is_not(
    app: App, alice: MatrixUser, carl: IrcUser
) -> None:
    await carl.join("#door")
    room = RoomId(await bridge(alice, "#door"))
    await app.parts.encryption.note(room)
    await wait_until(lambda: not app.parts.encryption.is_known(room))
    # The next start must not believe it again.
    assert room not in await app.parts.bot_rooms.encrypted_rooms()
    (door,) = app.parts.portals.all
    assert door.portal.room == room
    assert not app.parts.encrypted_rooms.troubles()
    # Nor does one end that has moved on meanwhile.
    await app.parts.plumbing.unbridge(door, BOT, room=RoomId("!old:test.example"))
    assert app.parts.portals.all == [door]
    await alice.say(room, "still here")
    await carl.expect("PRIVMSG #door :still here")


async def test_a_direct_chat_with_somebody_of_a_network_ends_so_too_and_a_new_one_begins(
    app: App, alice: MatrixUser, carl: IrcUser
) -> None:
    await carl.join("#door")
    room = await bridge(alice, "#door")
    nick = await nick_of(alice, room, carl)
    carl.say(f"PRIVMSG {nick} :psst")
    chat, _ = await invitation(alice, ghost("carl"))
    await alice.join(chat)
    await alice.wait_for_text(chat, "psst")
    await alice.set_state(chat, "m.room.encryption", SECRET)
    told, _ = await invitation(alice, BOT)
    await alice.join(told)
    await alice.wait_for_text(told, "Your chat with carl on near has ended")
    await wait_until(lambda: len(app.parts.portals.all) == 1)
    assert not app.parts.encrypted_rooms.troubles()
    carl.say(f"PRIVMSG {nick} :hello again")
    await alice.wait_until(lambda: bool(set(alice.invitations) - {chat, told}))
    (new,) = set(alice.invitations) - {chat, told}
    await alice.join(new)
    await alice.wait_for_text(new, "hello again")
