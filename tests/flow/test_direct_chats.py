"""One Matrix user and one person on IRC, in a room of their own, begun from either side."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from bridge.app import App
from bridge.core.intake.watch import watch_name
from bridge.demo.matrix_user import MatrixUser
from bridge.model import Announce, InstanceRules, Permission
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from tests.flow.channels import nick_of
from tests.flow.networks import NEAR, Run, irc_module, on_each_server
from tests.flow.rooms import BOT, bridge, ghost, invitation, wait_for_member, wait_for_typing
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.people import sign_in
from tests.rigs.trestle import Town, make_modules, running, wait_until


async def declined(person: MatrixUser, room: str, user: str) -> str:
    """Wait until somebody has left the room or declined; the reason."""
    event = await wait_for_member(person, room, user, "leave")
    return str(event["content"].get("reason", ""))


@on_each_server
async def test_a_private_message_opens_a_direct_chat_that_goes_both_ways_and_follows_the_person(
    town: Town, folder: Path, database_settings: DatabaseSettings, run: Run
) -> None:
    async with run() as irc, irc_user(irc.port, "carl") as carl:
        alice, bea = await town.person("alice"), await town.person("bea")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            permissions={bea.id: Permission.ADMIN},
            web=WebSettings(listen=Address("127.0.0.1", 0), manager_url="http://m.example"),
        )  # fmt: skip
        await carl.join("#talk")
        async with running(settings) as app:
            room = await bridge(alice, "#talk")
            nick = await nick_of(alice, room, carl)
            carl.say(f"PRIVMSG {nick} :psst \x02you\x02", f"PRIVMSG {nick} :\x01ACTION waits\x01")
            chat, invited = await invitation(alice, ghost("carl"))
            assert invited["content"]["is_direct"] is True
            await alice.join(chat)
            said = await alice.wait_for_text(chat, "psst you")
            await alice.wait_for_text(chat, "waits")
            assert said["sender"] == ghost("carl")
            await alice.say(chat, "what is it?")
            await carl.expect(f":{nick}!", "PRIVMSG carl :what is it?")
            assert set(await alice.members(chat)) == {alice.id, ghost("carl"), BOT}
            # Who goes by another nick is the same person, in the same room.
            carl.say("NICK karl", f"PRIVMSG {nick} :it is me")
            said = await alice.wait_for_text(chat, "it is me")
            assert said["sender"] == ghost("karl")
            await alice.say(chat, "I see")
            await carl.expect("PRIVMSG karl :I see")
            await _keep_others_out(alice, bea, carl, nick, chat)
            await _show_it_to_nobody_else(app, alice, bea, room, chat)
        # A restart changes nothing, but that alice is not connected until she speaks.
        async with running(settings) as app:
            await alice.say(chat, "after the restart")
            line = await carl.expect("PRIVMSG karl :after the restart")
            nick = line.removeprefix(":").partition("!")[0]
            carl.say(f"PRIVMSG {nick} :welcome back")
            await alice.wait_for_text(chat, "welcome back")
            # That somebody quits is seen from a channel that both are in.
            await nick_of(alice, room, carl)
            await _end_by_leaving(app, alice, carl, nick, chat)


async def _keep_others_out(
    alice: MatrixUser, bea: MatrixUser, carl: IrcUser, nick: str, chat: str
) -> None:
    """What is said to one person alone stays with that person."""
    await alice.invite(chat, bea.id)
    await bea.join(chat)
    await bea.say(chat, "bea says")
    await bea.wait_for_text(chat, f"it is a chat of {alice.id} alone")
    carl.say(f"PRIVMSG {nick} :between us two")
    await carl.expect("NOTICE karl", "not carried to Matrix: others would read it")
    await alice.wait_for_text(chat, f"does not come here while {bea.id} can read it")
    await bea.leave(chat)
    await wait_for_member(alice, chat, bea.id, "leave")
    # Trestle hears of it before what is said after it.
    await alice.say(chat, "she is gone")
    await carl.expect("PRIVMSG karl :she is gone")
    carl.say(f"PRIVMSG {nick} :us two again")
    await alice.wait_for_text(chat, "us two again")
    said = [str(one["content"].get("body")) for one in await alice.messages(chat)]
    assert "between us two" not in said
    assert not any("bea says" in one for one in carl.heard)


async def _show_it_to_nobody_else(
    app: App, alice: MatrixUser, admin: MatrixUser, room: str, chat: str
) -> None:
    """An admin learns of the chat by no list, and has no hand in it."""
    async with aiohttp.ClientSession() as session:
        own, other = [await sign_in(app, session, one.id) for one in (alice, admin)]
        shown = {one["room"]: one for one in (await own.ask("GET", "/portals"))["portals"]}
        assert shown.keys() == {room, chat}
        assert [one["room"] for one in (await other.ask("GET", "/portals"))["portals"]] == [room]
        path = f"/portals/{shown[chat]['id']}"
        await other.ask("PATCH", path, {"paused": True}, status=403)
        await other.ask("DELETE", path, status=403)
    # What waits is told in the status by its lane.
    names = [app.parts.portals.name_of(door.name) for door in app.parts.portals.all]
    assert sorted(names) == ["#talk on near", "a direct chat on near"]


async def _end_by_leaving(
    app: App, alice: MatrixUser, carl: IrcUser, nick: str, chat: str
) -> None:
    """Who leaves the room ends the chat; the next word opens another."""
    await alice.leave(chat)
    await wait_until(lambda: all(one.portal.room != chat for one in app.parts.portals.all))
    carl.say(f"PRIVMSG {nick} :are you there?")
    other, _ = await invitation(alice, ghost("karl"))
    assert other != chat
    await alice.join(other)
    await alice.wait_for_text(other, "are you there?")
    carl.say("QUIT :off")
    await alice.wait_for_text(other, "karl has left the network")
    await alice.say(other, "wait")
    told = await alice.wait_for_text(other, "did not reach karl on near")
    assert "nobody and no channel has that name" in told["content"]["body"]
    session = app.parts.instances[NEAR].find_session(UserId(alice.id))
    assert session is not None
    await alice.say(other, "!trestle optout everywhere")
    await alice.wait_for_text(other, "bridged anywhere")
    (door,) = [one for one in app.parts.portals.all if one.portal.room == other]
    assert door.portal.receiver is not None
    await app.parts.logins.on_end(session.row)
    await alice.wait_for_text(other, "Your connection to near has ended, and this chat with it.")
    assert app.parts.portals.find_direct(NEAR, door.portal.chat, session.row.id) is None


async def test_what_is_done_in_a_direct_chat_and_who_comes_and_goes_is_seen_over_a_restart_too(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_inspircd() as irc, irc_user(irc.port, "carl") as carl:
        modules = make_modules(irc_module(irc, netsplit_seconds=0))
        settings = town.settings_for(folder, database_settings, modules=modules)
        alice, bea = await town.person("alice"), await town.person("bea")
        carl.say("CAP REQ :message-tags echo-message")
        async with running(settings):
            chat = await _invite(alice, "carl")
            await alice.wait_until_joined(chat, BOT)
            nick, msgid = await _said_to_carl(alice, chat, carl, "hello")
            carl.say(f"@+typing=active TAGMSG {nick}")
            await wait_for_typing(alice, chat, [ghost("carl")])
            carl.say(f"@+draft/reply={msgid};+draft/react=lol TAGMSG {nick}")
            await _done_by_carl(alice, chat, "m.reaction")
            # A reaction may be any word: it is for alice alone, too.
            await alice.invite(chat, bea.id)
            await bea.join(chat)
            await bea.say(chat, "bea says")
            await bea.wait_for_text(chat, f"it is a chat of {alice.id} alone")
            carl.say(f"@+draft/reply={msgid};+draft/react=secret TAGMSG {nick}")
            await alice.wait_for_text(chat, f"does not come here while {bea.id} can read it")
            assert "secret" not in str(await bea.messages(chat))
        async with running(settings):
            nick, _ = await _said_to_carl(alice, chat, carl, "again")
            carl.say(f"@+draft/reply={msgid};+draft/unreact=lol TAGMSG {nick}")
            await _done_by_carl(alice, chat, "m.room.redaction")
            # The two are in no channel together.
            await carl.quit()
            await alice.wait_for_text(chat, "carl is not on the network now")
            async with irc_user(irc.port, "carl"):
                await alice.wait_for_text(chat, "carl is on the network again")


async def _said_to_carl(alice: MatrixUser, chat: str, carl: IrcUser, text: str) -> tuple[str, str]:
    """Have alice say something: her nick, and the message's id."""
    await alice.say(chat, text)
    line = await carl.expect(f"PRIVMSG carl :{text}")
    found = re.match(r"@\S*msgid=([^; ]+)\S* :([^!]+)!", line)
    assert found is not None
    return found[2], found[1]


async def _done_by_carl(alice: MatrixUser, chat: str, kind: str) -> None:
    await alice.wait_until(
        lambda: any(
            (one["type"], one["room_id"], one["sender"]) == (kind, chat, ghost("carl"))
            for one in alice.events
        )
    )


async def test_a_matrix_user_begins_a_direct_chat_by_a_word_or_by_inviting_the_ghost(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        alice, bea = await town.person("alice"), await town.person("bea")
        async with running(settings) as app:
            room = await alice.create_room(preset="public_chat", invite=[BOT])
            await alice.wait_until_joined(room, BOT)
            await alice.say(room, "!trestle near query carol")
            await alice.wait_for_text(room, "nobody on near is called carol now")
            assert not alice.invitations
            # Nor has she got a connection for that, or been told of one.
            assert app.parts.instances[NEAR].find_session(UserId(alice.id)) is None
            assert not any("a connection of your own" in str(one) for one in alice.events)
            await alice.say(room, "!trestle near query carl")
            await alice.wait_for_text(room, "You are invited to a direct chat with carl")
            await alice.wait_for_text(room, "from a connection of your own")
            chat, _ = await invitation(alice, ghost("carl"))
            await alice.join(chat)
            await alice.say(chat, "hello carl")
            await carl.expect("PRIVMSG carl :hello carl")
            await alice.say(room, "!trestle near query CARL")
            await alice.wait_for_text(room, f"You have a direct chat with CARL: {chat}")
            # Once more by an invitation, as clients begin a direct chat: there is one.
            again = await _invite(alice, "carl")
            assert chat in await declined(alice, again, ghost("carl"))
            await _invite_as_clients_do(app, bea, carl)


async def _invite(person: MatrixUser, nick: str, **more: object) -> str:
    return await person.create_room(
        preset="trusted_private_chat", is_direct=True, invite=[ghost(nick)], **more
    )


async def _invite_as_clients_do(app: App, bea: MatrixUser, carl: IrcUser) -> None:
    """The ghost comes, and the bot; to an encrypted room it does not, but invites to another."""
    secret = {
        "type": "m.room.encryption", "state_key": "",
        "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    }  # fmt: skip
    chat = await _invite(bea, "carl")
    await bea.wait_until_joined(chat, BOT)
    # Nobody gets a connection who was not told: here in a chat of the bot's.
    told, _ = await invitation(bea, BOT)
    await bea.join(told)
    await bea.wait_for_text(told, "from a connection of your own")
    await bea.say(chat, "hello from bea")
    line = await carl.expect("PRIVMSG carl :hello from bea")
    carl.say(f"PRIVMSG {line.removeprefix(':').partition('!')[0]} :hello bea")
    await bea.wait_for_text(chat, "hello bea")
    sealed = await _invite(bea, "dora", initial_state=[secret])
    reason = await declined(bea, sealed, ghost("dora"))
    open_one, _ = await invitation(bea, ghost("dora"))
    assert "cannot read encrypted messages" in reason
    assert open_one in reason
    group = await bea.create_room(preset="private_chat", invite=[ghost("carl")])
    assert "direct chats alone" in await declined(bea, group, ghost("carl"))
    wrong = await _invite(bea, "=20")
    assert await declined(bea, wrong, ghost("=20"))
    assert len([one for one in app.parts.portals.all if one.portal.receiver]) == 3


@pytest.mark.parametrize("invited", [(ghost("carl"), BOT), (BOT, ghost("carl"))])
async def test_a_direct_chat_to_which_the_bot_is_invited_as_well_is_with_the_person_of_the_network(
    town: Town, folder: Path, database_settings: DatabaseSettings, invited: Sequence[str]
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        alice = await town.person("alice")
        async with running(settings) as app:
            chat = await alice.create_room(
                preset="trusted_private_chat", is_direct=True, invite=list(invited)
            )
            await alice.wait_until_joined(chat, ghost("carl"))
            await alice.wait_until_joined(chat, BOT)
            await wait_until(lambda: bool(app.parts.portals.in_room(RoomId(chat))))
            await wait_until(lambda: watch_name(RoomId(chat)) not in app.parts.router.lanes)
            await alice.say(chat, "help")
            await carl.expect("PRIVMSG carl :help")
        async with running(settings):
            await alice.say(chat, "status")
            await carl.expect("PRIVMSG carl :status")
            await alice.say(chat, "!trestle nonsense")
            await alice.wait_for_text(chat, "I do not know 'nonsense'")
            # An answer to what was said to carl would have come before that.
            heard = alice.heard(chat, BOT)
            # A bot that came first may have greeted her.
            greetings = [one for one in heard if "I bridge rooms" in str(one["content"]["body"])]
            assert len(heard) == len(greetings) + 1


async def test_who_must_read_first_has_no_chat_and_no_connection_before(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc:
        modules = make_modules(irc_module(irc))
        rules = InstanceRules(announce=Announce.BEFORE)
        modules[NEAR] = replace(modules[NEAR], rules=rules)
        settings = town.settings_for(folder, database_settings, modules=modules)
        alice = await town.person("alice")
        async with running(settings) as app:
            chat = await _invite(alice, "carl")
            assert "read that" in await declined(alice, chat, ghost("carl"))
            assert app.parts.instances[NEAR].find_session(UserId(alice.id)) is None
            assert not app.parts.portals.all
