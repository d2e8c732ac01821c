"""A channel with a key is bridged by who knows it, and nobody else learns it from us."""

import json
import logging
from pathlib import Path

import pytest

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.chats import direct_chat, order_among
from tests.flow.networks import Run, irc_module, on_each_server
from tests.flow.rooms import BOT
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running

KEYS = ("open-sesame-1", "open-sesame-2", "open-sesame-3")
OUT, BACK = "I am out of #cave on near", "I am in #cave on near again"
WAY = "Say the key after the channel's name, or where it is bridged already: !trestle key <key>"
BARE = "That is no command without !trestle before it."


async def locked(user: IrcUser, channel: str, key: str = KEYS[0]) -> None:
    """Be in a channel that has a key."""
    await user.join(channel)
    user.say(f"MODE {channel} +k {key}")
    await user.expect(f"MODE {channel} +k")


async def room_with_bot(person: MatrixUser) -> str:
    """A room in which the bot may take messages back."""
    room = await person.create_room(preset="public_chat", name="cave", room_version="11")
    await person.invite(room, BOT)
    await person.wait_until_joined(room, BOT)
    levels = {"users": {person.id: 100, BOT: 50}}
    await person.set_state(room, "m.room.power_levels", levels)
    return room


async def say_secret(person: MatrixUser, room: str, words: str, answer: str) -> None:
    """Say a command with a key in it, and see it answered and taken back."""
    event = await order_among(person, room, words, answer)
    await person.wait_until(lambda: any(
        one["type"] == "m.room.redaction" and one["sender"] == BOT
        and event in (one.get("redacts"), one["content"].get("redacts"))
        for one in person.events
    ))  # fmt: skip


async def vault_rows(app: App) -> int:
    found = await app.parts.database.core.fetchval("SELECT count(*) FROM vault")
    return int(found)


async def told_nowhere(person: MatrixUser, room: str, log: pytest.LogCaptureFixture) -> None:
    """No key is in the log, in what the bot has said, nor in the room's state."""
    said = [str(one["content"].get("body")) for one in person.heard(room, BOT)]
    states = await person.call("GET", f"v3/rooms/{room}/state")
    known = "\n".join([*said, json.dumps(states), log.text])
    assert not [key for key in KEYS if key in known]


@on_each_server
async def test_a_channel_is_bridged_by_its_key_which_is_kept_learnt_and_forgotten(
    town: Town, folder: Path, database_settings: DatabaseSettings,
    caplog: pytest.LogCaptureFixture, run: Run,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG, "bridge")
    async with run() as irc, irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        modules = make_modules(irc_module(irc, rejoin_seconds=0.1))
        settings = town.settings_for(folder, database_settings, modules=modules)
        await locked(carl, "#cave")
        async with running(settings) as app:
            room = await room_with_bot(alice)
            await alice.say(room, "!trestle bridge near #cave")
            await alice.wait_for_text(room, WAY)
            await say_secret(alice, room, "!trestle bridge near #cave wrong", "taken back")
            assert await vault_rows(app) == 0
            words = f"!trestle bridge near #cave {KEYS[0]}"
            await say_secret(alice, room, words, "This room is bridged to #cave")
            await alice.say(room, "by a connection of my own")
            await carl.expect("PRIVMSG #cave :by a connection of my own")
            await alice.say(room, "!trestle status")
            await alice.wait_for_text(room, "#cave on near: running")
        async with running(settings):
            await carl.expect(":trestle!", "JOIN")
            carl.say("PRIVMSG #cave :after a restart")
            await alice.wait_for_text(room, "after a restart")
            carl.say(f"MODE #cave -k {KEYS[0]}", f"MODE #cave +k {KEYS[1]}")
            carl.say("KICK #cave trestle :and back")
            await carl.expect("KICK", "trestle")
            await carl.expect(":trestle!", "JOIN")
        carl.say(f"MODE #cave -k {KEYS[1]}", f"MODE #cave +k {KEYS[2]}")
        await carl.sync()
        async with running(settings) as app:
            await alice.wait_for_text(room, OUT)
            await say_secret(alice, room, f"key {KEYS[2]}", BARE)
            await say_secret(alice, room, f"!trestle near key {KEYS[2]}", "key of #cave is kept")
            await alice.wait_for_text(room, BACK)
            await alice.say(room, "!trestle key")
            await alice.wait_for_text(room, "A key of #cave is kept.")
            assert await vault_rows(app) == 1
            await told_nowhere(alice, room, caplog)
            await alice.say(room, "!trestle unbridge")
            await alice.wait_for_text(room, "no longer bridged here")
            assert await vault_rows(app) == 0


async def test_a_key_is_taken_back_by_who_has_the_power_alone(
    town: Town,
    settings: Settings,
    carl: IrcUser,
) -> None:
    alice, bob = await town.person("alice"), await town.person("bob")
    await locked(carl, "#den")
    async with running(settings) as app:
        room = await room_with_bot(alice)
        await say_secret(alice, room, f"!trestle bridge near #den {KEYS[0]}", "is bridged to")
        await bob.join(room)
        await say_secret(bob, room, "!trestle key mine", "you need the power")
        await say_secret(alice, room, "!trestle near kye other", "takes no such command")
        await alice.say(room, "!trestle key none")
        await alice.wait_for_text(room, "No key of #den is kept any more.")
        assert await vault_rows(app) == 0


async def test_a_key_that_is_said_without_the_bots_name_where_the_bot_asked_for_it_stays_nowhere(
    settings: Settings,
    carl: IrcUser,
    alice: MatrixUser,
) -> None:
    await carl.join("#nook")
    async with running(settings):
        room = await room_with_bot(alice)
        await alice.say(room, "!trestle bridge near #nook")
        await alice.wait_for_text(room, "This room is bridged to #nook")
        await alice.say(room, "key lime")
        await carl.expect("PRIVMSG #nook :key lime")
        await alice.say(room, "!trestle mode +k x")
        await alice.wait_for_text(room, "say !trestle key <key> to have it kept here")
        for words in (f"key {KEYS[0]}", f"Near KEY {KEYS[0]}", f"`key {KEYS[0]}`"):
            await say_secret(alice, room, words, BARE)
        await alice.say(room, "the key is")
        await carl.expect("PRIVMSG #nook :the key is")
        assert not [one for one in carl.heard if KEYS[0] in one]


async def test_who_knows_the_key_has_a_room_for_the_channel_and_is_invited(
    town: Town,
    settings: Settings,
    carl: IrcUser,
) -> None:
    alice, bob = await town.person("alice"), await town.person("bob")
    await locked(carl, "#cellar")
    async with running(settings) as app:
        chat = await direct_chat(alice)
        await say_secret(alice, chat, "!trestle near join #cellar wrong", WAY)
        await say_secret(
            alice, chat, f"!trestle join #cellar {KEYS[0]}",
            "You are invited to the room of #cellar",
        )  # fmt: skip
        door = app.parts.portals.all[0]
        await alice.join(door.portal.room)
        other = await direct_chat(bob)
        await say_secret(bob, other, "!trestle join #cellar guess", "not open to everybody")
        await alice.say(door.portal.room, "down here")
        await carl.expect("PRIVMSG #cellar :down here")


async def test_a_key_said_with_the_wish_is_used_when_an_operator_agrees(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        alice = await town.person("alice")
        modules = make_modules(irc_module(irc, own_network=False))
        settings = town.settings_for(folder, database_settings, modules=modules)
        await locked(carl, "#guild")
        async with running(settings):
            room = await room_with_bot(alice)
            words = f"!trestle bridge near #guild {KEYS[0]}"
            await say_secret(alice, room, words, "belongs to those who run it")
            await carl.expect("yes #guild")
            carl.say("PRIVMSG trestle :yes #guild")
            await alice.wait_for_text(room, "This room is bridged to #guild")
            await alice.say(room, "agreed")
            await carl.expect("PRIVMSG #guild :agreed")
