"""What a channel is and what its room is follow each other, by the rights on both sides."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.settings.records import Address, DatabaseSettings, Settings, WebSettings
from tests.flow.channels import tell
from tests.flow.networks import irc_module, one_after_another
from tests.flow.records import page_of
from tests.flow.rooms import (
    BOT,
    bridge,
    ghost,
    give_power,
    power,
    state,
    wait_for_member,
    wait_for_state,
)
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer
from tests.rigs.trestle import Town, make_modules, wait_until

TRIES = itertools.count()


pytestmark = one_after_another


@pytest.fixture
def settings(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> Settings:
    """With a public page, and a bot beside the network."""
    web = WebSettings(
        public_listen=Address("127.0.0.1", 0), public_url="http://public.example",
        contact="admin@test.example", policy="Be kind.\n<b>Keep</b> nothing.",
    )  # fmt: skip
    modules = make_modules({**irc_module(irc), "dice": ("dice", {})})
    return town.settings_for(folder, database_settings, web=web, modules=modules)


async def test_a_room_that_was_made_for_a_channel_is_as_the_channel_is(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    yard = f"#yard-{irc.kind}"  # The homeserver of all tests keeps an alias.
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "carl") as carl:
        await olga.join(yard)
        await carl.join(yard)
        olga.say(f"TOPIC {yard} :\x02first\x02 words")
        await carl.expect(f"TOPIC {yard}")
        alias = app.parts.namespaces.alias("near", yard)  # type: ignore[arg-type]
        joined = await alice.call("POST", f"v3/join/{alias.replace('#', '%23')}", {})
        room = joined["room_id"]
        await wait_for_state(
            alice, room, "m.room.topic", lambda c: c.get("topic") == "first words"
        )
        await wait_for_state(alice, room, "m.room.power_levels", power(ghost("olga"), 50))
        olga.say(f"TOPIC {yard} :second", f"MODE {yard} +v carl", f"MODE {yard} +o carl")
        await wait_for_state(alice, room, "m.room.topic", lambda c: c.get("topic") == "second")
        await wait_for_state(alice, room, "m.room.power_levels", power(ghost("carl"), 50))
        olga.say(f"MODE {yard} -o carl")
        await wait_for_state(alice, room, "m.room.power_levels", power(ghost("carl"), 1))
        olga.say(f"MODE {yard} -v carl")
        await wait_for_state(alice, room, "m.room.power_levels", power(ghost("carl"), 0))

        page = await page_of(app)
        assert f"<td>{yard}</td>" in page
        assert f">{alias}</a>" in page
        assert "Be kind." in page
        assert "&lt;b&gt;Keep" in page
        assert 'Contact: <a href="mailto:admin@test.example"' in page
        olga.say(f"MODE {yard} +k sesame")
        await wait_for_state(
            alice, room, "m.room.join_rules", lambda c: c.get("join_rule") == "invite"
        )
        # Stored once the room is closed, and seen on the page from then on.
        await alice.wait_until(lambda: app.parts.portals.all[0].portal.open is False)
        assert yard not in await page_of(app, anew=False)
        olga.say(f"MODE {yard} -k sesame", f"MODE {yard} +s")
        await wait_for_state(
            alice, room, "m.room.join_rules", lambda c: c.get("join_rule") == "public"
        )
        await carl.expect(f"MODE {yard}", "+s")
        await alice.wait_until(lambda: not app.parts.portals.all[0].portal.listed)
        assert yard not in await page_of(app)


async def test_what_is_done_in_a_room_is_done_in_the_channel_and_the_other_way_round(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea, dora = [await town.person(name) for name in ("alice", "bea", "dora")]
    nick = {one.id: one.id[1:].partition(":")[0] for one in (bea, dora)}
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "carl") as carl:
        await olga.join("#mall")
        await carl.join("#mall")
        olga.say("TOPIC #mall :of the channel", "MODE #mall +t")
        room = await bridge(alice, "#mall")
        await alice.set_state(room, "m.room.topic", {"topic": "alone"})
        await alice.wait_for_text(room, "#mall on near did not take the change of the topic:")
        olga.say("MODE #mall +o trestle")
        await olga.expect("MODE #mall +o", "trestle")
        await alice.set_state(room, "m.room.topic", {"topic": "of the room"})
        await olga.expect("TOPIC #mall", "of the room")
        levels = await state(alice, room, "m.room.power_levels")
        assert not power(ghost("olga"), 50)(levels)  # Nobody has decided that yet.
        await give_power(alice, room, {BOT: 100})
        await alice.say(room, "!trestle set follow all")
        await alice.wait_for_text(room, "follow is all for #mall on near now.")
        await wait_for_state(alice, room, "m.room.power_levels", power(ghost("olga"), 50))

        await alice.say(room, "!trestle topic by a command")
        await olga.expect("TOPIC #mall", "by a command")
        await wait_for_state(
            alice, room, "m.room.topic", lambda c: c.get("topic") == "by a command"
        )
        for person in (bea, dora):
            await person.join(room)
            await person.say(room, "hello")
            await olga.expect("PRIVMSG #mall", "hello")
        await give_power(alice, room, {bea.id: 50, ghost("carl"): 1})
        await olga.expect("MODE #mall +v", "carl")
        await olga.expect("MODE #mall +o", nick[bea.id])
        await _who_is_put_out_of_the_room_goes(alice, olga, carl, room)

        await tell(olga, f"block {alice.id}", f"{alice.id} is blocked in #mall")
        await alice.set_state(room, "m.room.topic", {"topic": "past the block"})
        await alice.wait_for_text(room, "change of the topic: those who run #mall take")
        olga.say(f"KICK #mall {nick[dora.id]} :not here")
        kicked = await wait_for_member(alice, room, dora.id, "leave")
        assert (kicked["sender"], kicked["content"]["reason"]) == (ghost("olga"), "not here")
        olga.say(f"KICK #mall {nick[bea.id]} :nor you")
        await olga.expect("KICK #mall", nick[bea.id])
        olga.say("PRIVMSG #mall :last")
        await alice.wait_for_text(room, "last")
        assert (await alice.members(room)).keys() >= {bea.id}  # She stands as high as olga.


async def test_a_bot_that_gets_its_power_later_does_then_what_it_could_not_before(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    async with irc_user(irc.port, "olga") as olga:
        await olga.join("#grant")
        room = await bridge(alice, "#grant")
        await alice.say(room, "!trestle set follow all")
        await alice.wait_for_text(room, "follow is all for #grant on near now.")
        olga.say("MODE #grant +k sesame")
        await olga.sync()
        assert not is_told_of_bridge(alice, room)
        await give_power(alice, room, {BOT: 100})
        await wait_for_state(alice, room, "m.room.power_levels", power(ghost("olga"), 50))
        await wait_for_state(
            alice, room, "m.room.join_rules", lambda c: c.get("join_rule") == "invite"
        )
        await alice.wait_until(lambda: is_told_of_bridge(alice, room))


def is_told_of_bridge(person: MatrixUser, room: str) -> bool:
    """Whether the room's state tells clients of a bridge, as the person has seen it."""
    return any(event["room_id"] == room and event["type"] == "m.bridge" for event in person.events)


async def test_bans_that_are_set_or_lifted_while_the_relay_is_away_are_carried_when_it_is_back(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    mask, chat = f"{bea.id[1:].partition(':')[0]}!*@*", RemoteChatId("#lane")
    network = app.parts.instances[InstanceId("near")].connector._network  # type: ignore[attr-defined]
    async with irc_user(irc.port, "olga") as olga:
        await olga.join("#lane")
        olga.say(f"OPER {OPERATOR} {OPERATOR_PASSWORD}")
        await olga.expect(" 381 ")
        room = await bridge(alice, "#lane")
        await give_power(alice, room, {BOT: 100})
        await alice.say(room, "!trestle set follow all")
        await alice.wait_for_text(room, "follow is all for #lane on near now.")
        await bea.join(room)
        await bea.say(room, "hello")
        await olga.expect("PRIVMSG #lane", "hello")

        async def miss(*changes: str) -> None:
            """Have the relay away while that is done."""
            olga.say("KILL trestle :a moment", *changes)
            await olga.expect("JOIN", "#lane")

        await miss()
        await wait_until(lambda: network.ban_lists.knows(chat))
        await miss(f"MODE #lane +b {mask}")
        banned = await wait_for_member(alice, room, bea.id, "ban")
        assert banned["sender"] == BOT
        await miss(f"MODE #lane -b {mask}")
        assert (await wait_for_member(alice, room, bea.id, "leave"))["sender"] == BOT
        # A ban of the room's own is nobody's to lift on IRC.
        await kick(alice, room, "ban", bea.id)
        await miss(f"MODE #lane +b {mask}")
        await wait_until(lambda: bool(network.banned.noted(chat)))
        await miss(f"MODE #lane -b {mask}")
        await wait_until(lambda: not network.banned.noted(chat))
        olga.say("PRIVMSG #lane :after that")
        await alice.wait_for_text(room, "after that")
        status, content = await alice.try_call(
            "GET", f"v3/rooms/{room}/state/m.room.member/{bea.id}"
        )
        assert (status, content["membership"]) == (200, "ban")


async def is_silent(person: MatrixUser, room: str) -> bool:
    """Whether the room takes nothing that the person says."""
    content = {"msgtype": "m.text", "body": "may I?"}
    status, _ = await person.try_call(
        "PUT", f"v3/rooms/{room}/send/m.room.message/{next(TRIES)}", content
    )
    return status == 403


async def test_in_a_room_whose_channel_is_moderated_only_those_with_a_voice_speak(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    hall, nick = f"#hall-{irc.kind}", alice.id[1:].partition(":")[0]
    alias = app.parts.namespaces.alias("near", hall)  # type: ignore[arg-type]
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "carl") as carl:
        await olga.join(hall)
        await carl.join(hall)
        olga.say(f"MODE {hall} +v carl")
        await carl.expect(f"MODE {hall}", "carl")
        joined = await alice.call("POST", f"v3/join/{alias.replace('#', '%23')}", {})
        room = joined["room_id"]
        await bea.join(room)
        await alice.say(room, "first")
        await olga.expect(f"PRIVMSG {hall}", "first")

        def speaking(level: int) -> Callable[[dict[str, Any]], bool]:
            return lambda content: content.get("events_default", 0) == level

        olga.say(f"MODE {hall} +m")
        await wait_for_state(alice, room, "m.room.power_levels", speaking(1))
        assert await is_silent(alice, room)
        carl.say(f"PRIVMSG {hall} :by voice")
        await alice.wait_for_text(room, "by voice")
        olga.say(f"PRIVMSG {hall} :by rank")
        await alice.wait_for_text(room, "by rank")
        olga.say(f"MODE {hall} +v {nick}")
        await wait_for_state(alice, room, "m.room.power_levels", power(alice.id, 1))
        await alice.say(room, "heard")
        await olga.expect(f"PRIVMSG {hall}", "heard")
        assert await is_silent(bea, room)
        olga.say(f"MODE {hall} -v {nick}")
        await wait_for_state(alice, room, "m.room.power_levels", power(alice.id, 0))
        olga.say(f"MODE {hall} -m")
        await wait_for_state(alice, room, "m.room.power_levels", speaking(0))
        await bea.say(room, "all of us")
        await olga.expect(f"PRIVMSG {hall}", "all of us")
        levels = await state(alice, room, "m.room.power_levels")
        assert power(ghost("carl"), 1)(levels)
        olga.say(f"MODE {hall} +m")
        await wait_for_state(alice, room, "m.room.power_levels", speaking(1))
        door = next(one for one in app.parts.portals.all if one.portal.chat_name == hall)
        await app.parts.plumbing.unbridge(door, door.portal.created_by)  # type: ignore[arg-type]
        await wait_for_state(alice, room, "m.room.power_levels", speaking(0))


async def test_a_bot_that_comes_into_a_room_whose_channel_is_moderated_speaks_there(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, dice = await town.person("alice"), app.parts.namespaces.bot_of(InstanceId("dice"))
    hall = f"#later-{irc.kind}"
    async with irc_user(irc.port, "olga") as olga:
        await olga.join(hall)
        room = await bridge(alice, hall)
        await give_power(alice, room, {BOT: 100})
        await alice.say(room, "!trestle set follow all")
        await alice.wait_for_text(room, f"follow is all for {hall} on near now.")
        olga.say(f"MODE {hall} +m")

        def is_limited(content: dict[str, Any]) -> bool:
            return bool(content.get("events_default", 0) == 1)

        await wait_for_state(alice, room, "m.room.power_levels", is_limited)
        await alice.call("POST", f"v3/rooms/{room}/invite", {"user_id": dice})
        await wait_for_state(alice, room, "m.room.power_levels", power(dice, 1))
        # What changes while the main bot is put out is done when it is back.
        evictions = app.parts.intents.evictions
        await kick(alice, room, "kick", BOT)
        await wait_until(lambda: evictions.is_out(RoomId(room), UserId(BOT)))
        door = next(one for one in app.parts.portals.all if one.portal.chat_name == hall)
        olga.say(f"MODE {hall} -m")
        await wait_until(
            lambda: door.facts._access is not None and not door.facts._access.moderated
        )
        await alice.call("POST", f"v3/rooms/{room}/invite", {"user_id": BOT})
        await wait_for_state(
            alice, room, "m.room.power_levels", lambda content: not is_limited(content)
        )
        await wait_for_state(alice, room, "m.room.power_levels", power(dice, 0))


async def _who_is_put_out_of_the_room_goes(
    alice: MatrixUser, olga: IrcUser, carl: IrcUser, room: str
) -> None:
    await alice.say(room, "!trestle optout")
    await alice.wait_for_text(room, "Nothing that you say is bridged here")
    await kick(alice, room, "kick", ghost("carl"), reason="unheard")
    await alice.say(room, "!trestle optin")
    await alice.wait_for_text(room, "What you say is bridged again")
    carl.say("PRIVMSG #mall :still there")
    await alice.wait_for_text(room, "still there")
    await kick(alice, room, "kick", ghost("carl"), reason="enough")
    # The relay does it, so it says for whom.
    await carl.expect("KICK #mall carl", f"enough ({alice.id})")
    assert not any("unheard" in one for one in carl.heard)
    await carl.join("#mall")
    await kick(alice, room, "ban", ghost("carl"))
    await olga.expect("MODE #mall +b")
    await carl.expect("KICK #mall carl", f"({alice.id})")
    await kick(alice, room, "unban", ghost("carl"))
    await olga.expect("MODE #mall -b")


async def test_a_bridge_goes_along_where_both_rooms_say_so_and_into_no_strangers_room(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    async with irc_user(irc.port, "carl") as carl, irc_user(irc.port, "dora") as dora:
        await carl.join("#pier")
        await dora.join("#pier")
        room = await bridge(alice, "#pier", version="10")
        for nick in ("carl", "dora"):
            await wait_for_member(alice, room, ghost(nick), "join")
        strange = await alice.create_room(preset="public_chat")
        await alice.set_state(room, "m.room.tombstone", {"replacement_room": strange})
        await alice.wait_for_text(room, "stays here: the new room does not say that it replaces")
        await _who_has_no_power_in_the_new_room_leads_nobody_there(town, alice, room)
        (door,) = app.parts.portals.all
        attendance = door.arrivals.attendance
        await alice.wait_until(lambda: attendance.waiting == 0)
        attendance._going[UserId(ghost("dora"))] = "dora"  # She is to leave the room soon.
        upgraded = await alice.call("POST", f"v3/rooms/{room}/upgrade", {"new_version": "11"})
        new = str(upgraded["replacement_room"])
        await alice.wait_for_text(new, "The bridge to #pier on near has moved here.")
        await wait_for_member(alice, new, ghost("carl"), "join")
        for nick in ("carl", "dora"):
            await wait_for_member(alice, room, ghost(nick), "leave")
        there = await alice.call("GET", f"v3/rooms/{new}/joined_members")
        assert ghost("dora") not in there["joined"]
        await carl.expect("NOTICE #pier", f"replaced by {alice.id}; the bridge has moved along")
        await alice.say(new, "here?")
        await carl.expect("PRIVMSG #pier", "here?")
        carl.say("PRIVMSG #pier :along with you")
        await alice.wait_for_text(new, "along with you")
        await alice.say(new, "!trestle status")
        await alice.wait_for_text(new, "#pier on near: running.")
    assert [door.portal.room for door in app.parts.portals.all] == [new]


async def _who_has_no_power_in_the_new_room_leads_nobody_there(
    town: Town, alice: MatrixUser, room: str
) -> None:
    bea = await town.person("bea")
    await bea.join(room)
    await give_power(alice, room, {bea.id: 100})
    succeeds = {"predecessor": {"room_id": room, "event_id": "$last"}}
    new = await alice.create_room(preset="public_chat", creation_content=succeeds)
    await bea.set_state(room, "m.room.tombstone", {"replacement_room": new})
    no = f"stays here: {bea.id} has no power over the settings of the new room"
    await alice.wait_for_text(room, no)


async def kick(person: MatrixUser, room: str, how: str, whom: str, **more: str) -> None:
    await person.call("POST", f"v3/rooms/{room}/{how}", {"user_id": whom, **more})
