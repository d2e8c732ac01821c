"""A room follows a policy list: looked at, in force, changed meanwhile, over a restart, ended."""

from pathlib import Path
from typing import Any

from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings
from tests.flow.networks import Run, irc_module, on_each_server
from tests.flow.records import acts
from tests.flow.rooms import BOT, bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.trestle import Town, make_modules, running

SPAM = "@_trestle_near_spam*:test.example"


def ban(entity: str) -> dict[str, str]:
    return {"entity": entity, "recommendation": "m.ban", "reason": "test"}


async def rule(
    person: MatrixUser, room: str, key: str, content: dict[str, Any], about: str = "user"
) -> None:
    await person.set_state(room, f"m.policy.rule.{about}", content, key)


async def hears(listener: IrcUser, words: str, *, without: str) -> None:
    """Hear the words in the channel, and until then not the others."""
    while True:
        line = await listener.expect("PRIVMSG #mall")
        assert without not in line
        if words in line:
            return


async def hears_bans(listener: IrcUser, *masks: str) -> None:
    """Hear that each is banned, by one line or by several."""
    left = set(masks)
    while left:
        line = await listener.expect("MODE #mall +b")
        left = {one for one in left if one not in line}


async def speak_in_vain(person: MatrixUser, room: str) -> None:
    """Say something, and a command about the channel, as one who is kept out."""
    await person.say(room, "!trestle near names")
    await person.wait_for_text(room, f"this room's policy lists keep {person.id} out.")
    await person.say(room, "unheard")


async def make_list(lena: MatrixUser, bea: MatrixUser) -> tuple[str, str]:
    """A list with rules about one of the room, about people on IRC, and about nobody: its room
    and alias."""
    name = f"bans-{lena.id[1:].partition(':')[0]}"
    room = await lena.create_room(preset="public_chat", room_alias_name=name)
    await rule(lena, room, "bea", ban(bea.id))
    await rule(lena, room, "spam", ban(SPAM))
    await rule(lena, room, "bore", ban("@?*bore:test.example"))
    await rule(lena, room, "evil", ban("*.evil.example"), "server")
    await rule(lena, room, "fine", {**ban("@*:*"), "recommendation": "m.allow"})
    return room, f"#{name}:test.example"


@on_each_server
async def test_a_list_is_looked_at_first_then_in_force_and_followed_until_it_is_ended(
    town: Town, folder: Path, database_settings: DatabaseSettings, run: Run
) -> None:
    alice, bea, lena = [await town.person(name) for name in ("alice", "bea", "lena")]
    async with run() as irc, irc_user(irc.port, "olga") as olga:
        await olga.join("#mall")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        async with running(settings):
            room = await bridge(alice, "#mall")
            await bea.join(room)
            await bea.say(room, "hello")
            await olga.expect("PRIVMSG #mall", "hello")
            list_room, alias = await make_list(lena, bea)

            await look_at(alice, room, alias, list_room, about=bea.id)
            await bea.say(room, "still here")
            await olga.expect("PRIVMSG #mall", "still here")

            await alice.say(room, f"!trestle policy apply {alias}")
            await olga.expect("PART #mall", "is on a policy list")
            await alice.wait_for_text(room, f"{alias} ({list_room}) is in force for #mall.")
            await alice.wait_for_text(room, "#mall on near did not take the bans of this room's")
            await speak_in_vain(bea, room)
            await alice.say(room, "and heard")
            await hears(olga, "and heard", without="unheard")

            olga.say("MODE #mall +o trestle")
            await rule(lena, list_room, "troll", ban("@_trestle_near_troll:test.example"))
            await hears_bans(olga, "*bore!*@*", "spam*!*@*", "troll!*@*")
            await rule(lena, list_room, "alice", ban("@alice*:test.example"))
            await alice.wait_for_text(room, f"that is about {alice.id}. It is not in force; say")
            await rule(lena, list_room, "all", ban("@_trestle_near_*:test.example"))
            await alice.wait_for_text(room, "that is about everybody on near, or very many there.")
            await redact_rule(lena, list_room, "spam")
            await olga.expect("MODE #mall -b", "spam*!*@*")
            await alice.say(room, f"!trestle policy apply {alias}")
            await alice.wait_for_text(room, f"say !trestle policy apply {alias} yes")
            await alice.say(room, f"!trestle policy {alias}")
            await alice.wait_for_text(room, "Nobody is ever banned from #mall by a rule that is ")

        async with running(settings) as app:
            await olga.expect(":trestle!", "JOIN")
            await bea.say(room, "unheard")
            await alice.say(room, "after all")
            await hears(olga, "after all", without="unheard")
            olga.say("MODE #mall +o trestle")
            await alice.say(room, "!trestle policy")
            await alice.wait_for_text(room, f"({list_room}): in force; {alice.id} asked for it.")
            await alice.say(room, f"!trestle policy off {alias}")
            await alice.wait_for_text(room, "#mall does not follow ")
            await olga.expect("MODE #mall -b", "troll!*@*")
            await bea.say(room, "again")
            await olga.expect("PRIVMSG #mall", "again")
            await lena.wait_until(lambda: is_gone(lena, list_room))
            assert [(act.action, act.actor) for act in await acts(app)] == [
                ("bridge", alice.id), ("subscribe", alice.id), ("apply", alice.id), ("ban", BOT),
                ("ban", BOT), ("unban", BOT), ("unsubscribe", alice.id), ("unban", BOT),
            ]  # fmt: skip


async def look_at(
    person: MatrixUser, room: str, alias: str, list_room: str, *, about: str
) -> None:
    """Ask what the list would do, and hold the answer against what is in it."""
    await person.say(room, f"!trestle policy {alias}")
    seen = await person.wait_for_text(room, f"{alias} ({list_room}) has 4 rules")
    said = seen["content"]["body"]
    assert f"In this room it is about {about}: nothing that they say would" in said
    assert "would be banned from #mall as far as I have the right to: *bore, spam*." in said
    assert f"Nothing of that is done yet. Say !trestle policy apply {alias} " in said


async def redact_rule(person: MatrixUser, room: str, key: str) -> None:
    place = f"v3/rooms/{room}/state/m.policy.rule.user/{key}"
    event = await person.call("GET", place, format="event")
    await person.call("PUT", f"v3/rooms/{room}/redact/{event['event_id']}/{key}", {})


def is_gone(person: MatrixUser, room: str) -> bool:
    """Whether the bot left the room."""
    memberships = [
        event["content"]["membership"] for event in person.events
        if event["room_id"] == room and event.get("state_key") == BOT
    ]  # fmt: skip
    return memberships[-1:] == ["leave"]
