"""A real Synapse, a real IRC server, people on both sides."""

from typing import Any

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.sdk.ids import RoomId
from tests.flow.channels import read_texts
from tests.flow.networks import one_after_another
from tests.flow.records import acts
from tests.flow.rooms import BOT, bridge, enter, ghost, give_power, joined
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.scale import chance
from tests.rigs.trestle import Town

pytestmark = one_after_another


async def test_two_hundred_messages_cross_in_order_with_none_missing_or_doubled(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    room = await bridge(alice, "#talk")
    await bea.join(room)
    async with (
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "dora") as dora,
        irc_user(irc.port, "watcher") as watcher,
    ):
        for user in (carl, dora, watcher):
            await user.join("#talk")
        dice = chance("who speaks")
        people: list[MatrixUser | IrcUser] = [alice, bea, carl, dora]
        expected_on_irc: dict[str, list[str]] = {alice.id: [], bea.id: []}
        expected_in_matrix: dict[str, list[str]] = {"carl": [], "dora": []}
        for number in range(200):
            who = dice.choice(people)
            if isinstance(who, MatrixUser):
                formatted = number % 3 == 0
                html = f"message <b>{number}</b>" if formatted else ""
                await who.say(room, f"message {number}", html)
                shown = f"message \x02{number}\x02" if formatted else f"message {number}"
                expected_on_irc[who.id].append(shown)
            else:
                who.say(f"PRIVMSG #talk :word {number} \x02bold\x02")
                await who.sync()
                expected_in_matrix[who.nick].append(f"word {number} bold")
        total = sum(map(len, expected_on_irc.values()))
        seen = [
            (nick, text)
            for nick, text in await read_texts(watcher, 200)
            if nick not in {"carl", "dora"}
        ]
        assert len(seen) == total
        words = sum(map(len, expected_in_matrix.values()))
        await alice.wait_until(lambda: len(_ghosts_said(alice, room)) >= words)
        held = await alice.messages(room, 2000)

    by_nick: dict[str, list[str]] = {}
    for nick, text in seen:
        by_nick.setdefault(nick, []).append(_closed(text))
    assert sorted(map(tuple, by_nick.values())) == sorted(map(tuple, expected_on_irc.values()))
    for nick, texts in expected_in_matrix.items():
        said = [e["content"] for e in held if e["sender"] == ghost(nick)]
        assert [content["body"] for content in said if "body" in content] == texts
    bold = [e for e in held if "formatted_body" in e["content"] and e["sender"].startswith("@_t")]
    assert all("<strong>bold</strong>" in e["content"]["formatted_body"] for e in bold)
    assert len(bold) == sum(map(len, expected_in_matrix.values()))


def _ghosts_said(person: MatrixUser, room: str) -> list[str]:
    return [
        event["content"]["body"]
        for event in person.heard(room)
        if event["sender"].startswith("@_trestle_near_")
    ]


def _closed(text: str) -> str:
    """Formatting that ends with the line may be left open."""
    return text.replace("\x0f", "\x02") if text.count("\x02") % 2 else text


async def test_emotes_and_notices_cross_both_ways_and_what_the_bot_is_told_does_not(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#moods")
    async with irc_user(irc.port, "carl") as carl:
        await carl.join("#moods")
        first = await alice.say(room, "!trestle-news is out")
        await carl.expect("PRIVMSG #moods", "!trestle-news is out")
        secret = "!trestle near autocommand\nmsg NickServ identify s3cret"
        answer = {"body": f"> <@carl:x> hi\n\n{secret}", "msgtype": "m.text"}
        await alice.send(room, {**answer, "m.relates_to": {"m.in_reply_to": {"event_id": first}}})
        await alice.wait_for_text(room, "in a direct chat")
        changed = {"rel_type": "m.replace", "event_id": first}
        new = {"body": secret, "msgtype": "m.text"}
        await alice.send(room, {
            "body": f"* {secret}", "msgtype": "m.text", "m.new_content": new,
            "m.relates_to": changed,
        })  # fmt: skip
        await alice.say(room, "waves", msgtype="m.emote")
        await carl.expect("PRIVMSG #moods", "\x01ACTION waves\x01")
        assert "s3cret" not in " ".join(carl.heard)
        await alice.say(room, "beep", msgtype="m.notice")
        await carl.expect("NOTICE #moods", "beep")
        carl.say("PRIVMSG #moods :\x01ACTION nods\x01", "NOTICE #moods :boop")
        nods = await alice.wait_for_text(room, "nods")
        boop = await alice.wait_for_text(room, "boop")
    assert (nods["content"]["msgtype"], boop["content"]["msgtype"]) == ("m.emote", "m.notice")


async def test_a_person_who_parts_or_renames_is_followed(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#doors")
    async with irc_user(irc.port, "carl") as carl:
        await carl.join("#doors")
        carl.say("PRIVMSG #doors :good evening")
        await alice.wait_for_text(room, "good evening")
        carl.say("NICK karl")
        await alice.wait_until(lambda: joined(alice, room) == {"karl"})
        carl.say("PART #doors :gone")
        await alice.wait_until(lambda: "karl" not in joined(alice, room))


async def test_who_is_in_the_channel_when_it_is_bridged_is_shown_before_saying_a_word(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    async with irc_user(irc.port, "carl") as carl:
        await carl.join("#full")
        room = await bridge(alice, "#full")
        await alice.wait_until(lambda: "carl" in joined(alice, room))


async def test_unbridging_leaves_no_ghost_and_no_bridge_state(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await enter(alice, name="Brief")
    await give_power(alice, room, {BOT: 50})  # Else it can say nothing in the room's state.
    await alice.say(room, "!trestle bridge near #brief")
    await alice.wait_for_text(room, "This room is bridged to")
    async with irc_user(irc.port, "carl") as carl:
        await carl.join("#brief")
        carl.say("PRIVMSG #brief :hello")
        await alice.wait_for_text(room, "hello")
        (told,) = await bridge_states(alice, room)
        assert told["channel"]["displayname"] == "#brief"
        await alice.say(room, "!trestle unbridge")
        await alice.wait_for_text(room, "no longer bridged")
        await alice.wait_until(lambda: not joined(alice, room))
        carl.say("PRIVMSG #brief :into the void")
        await carl.sync()
    assert await bridge_states(alice, room) == [{}]
    assert not app.parts.portals.in_room(RoomId(room))


async def bridge_states(person: MatrixUser, room: str) -> list[dict[str, Any]]:
    """What the room's state tells of bridges."""
    states: Any = await person.call("GET", f"v3/rooms/{room}/state")
    return [event["content"] for event in states if event["type"] == "m.bridge"]


async def test_who_bridged_paused_and_unbridged_a_room_is_in_the_audit(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#noted")
    for words, answer in (
        ("pause", "until you say !trestle resume"), ("resume", "cross to and from #noted again"),
        ("unbridge", "no longer bridged"),
    ):  # fmt: skip
        await alice.say(room, f"!trestle {words}")
        await alice.wait_for_text(room, answer)
    noted = await acts(app)
    assert [act.action for act in noted] == ["bridge", "pause", "resume", "unbridge"]
    assert {(act.actor, act.subject, act.target) for act in noted} == {
        (alice.id, alice.id, f"near #noted {room}")
    }


async def test_an_unknown_network_and_a_wrong_channel_get_a_sentence(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "#first")
    await alice.say(room, "!trestle bridge nowhere #x")
    await alice.wait_for_text(room, "no network called 'nowhere'")
    await alice.say(room, "!trestle bridge near #a,#b")
    await alice.wait_for_text(room, "'#a,#b' is no channel of this network")
    other = await town.person("mallory")
    await other.join(room)
    await other.say(room, "!trestle bridge near #x")
    await alice.wait_for_text(room, "you need the power")
