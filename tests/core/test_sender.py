"""What goes into Matrix waits in the table, not in memory, and goes out in order."""

from dataclasses import replace
from pathlib import Path

from bridge.model import LinkKind, Outgoing, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings import DatabaseSettings
from tests.conformance.stage import DICE, ROOM, play, settings_for
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver
from tests.rigs.trestle import running, wait_until

MANY = 1500
"""More than a room holds in memory, several times."""


def say(text: str, room: str = ROOM) -> Outgoing:
    return Outgoing(
        room=RoomId(room), user=UserId(DICE), kind=SendKind.EVENT, type="m.room.message",
        content={"msgtype": "m.text", "body": text}, transaction_id=f"t {room} {text}",
    )  # fmt: skip


def away(asked: Asked) -> Answer | None:
    return refuse(502, "M_UNKNOWN") if "send" in asked.parts else None


async def test_what_waits_while_the_homeserver_is_away_lies_in_the_table_and_comes_in_order(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[away]) as stage:
        sender = stage.app.parts.sender
        wanted = [f"line {number}" for number in range(MANY)]
        for at in range(0, MANY, 50):
            await sender.put([say(text) for text in wanted[at : at + 50]])
        await sender.put([say("elsewhere", "!elsewhere")])
        assert sender.waiting == MANY + 1
        assert sender._held < 200
        assert sender.holding() == {ROOM: MANY, "!elsewhere": 1}
        stage.homeserver.rules.clear()
        await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == MANY)
        assert stage.homeserver.texts(ROOM) == wanted
        assert stage.homeserver.texts("!elsewhere") == ["elsewhere"]
        await wait_until(lambda: sender.waiting == 0)
        await wait_until(lambda: not sender.holding())
        assert sender._held == 0


async def test_a_backlog_of_the_last_process_goes_out_before_what_is_new(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(away)
        settings = settings_for(homeserver, database_settings, folder)
        old = [f"old {number}" for number in range(250)]
        async with running(settings) as app:
            await app.parts.sender.put([say(text) for text in old])
        homeserver.rules.clear()
        async with running(settings) as app:
            await app.parts.sender.put([say("new")])
            await homeserver.wait_until(lambda: "new" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == [*old, "new"]


async def test_what_is_about_a_message_finds_it_over_a_restart_though_both_waited(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    said = replace(say("hello"), portal=7, remote_id="m1")
    reaction = replace(
        say("+1"), type="m.reaction", content={"m.relates_to": {"key": "+1"}}, about="m1",
        portal=7, remote_id="r1", link=LinkKind.REACTION, alias="m1 +1",
    )  # fmt: skip
    gone = replace(say("gone"), kind=SendKind.REDACT, content={}, about="m1 +1", portal=7)
    about = [
        reaction,
        replace(say("an answer"), about="m1", portal=7, remote_id="m2"),
        replace(say("to nobody"), about="m0", portal=7, remote_id="m3"),
        gone,
        replace(say("+0"), type="m.reaction", content={"m.relates_to": {"key": "+0"}}, about="m0",
                portal=7, remote_id="r0", link=LinkKind.REACTION),
        say("the end"),
    ]  # fmt: skip
    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(away)
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            await app.parts.sender.put([said, *about])
        homeserver.rules.clear()
        async with running(settings) as app:
            sender = app.parts.sender
            await homeserver.wait_until(lambda: "the end" in homeserver.texts(ROOM))
            await wait_until(lambda: not sender.holding())
            # Of what goes by one name the newest is taken back.
            await sender.put([replace(reaction, remote_id="r2", transaction_id="again")])
            await wait_until(lambda: not sender.holding())
            await sender.put([replace(gone, transaction_id="gone again")])
            await wait_until(lambda: not sender.holding())
        hello, reacted, answered, alone, _, again = homeserver.said
        relation = {"rel_type": "m.annotation", "event_id": hello.event_id, "key": "+1"}
        assert reacted.content["m.relates_to"] == relation
        answer = {"m.in_reply_to": {"event_id": hello.event_id}}
        assert answered.content["m.relates_to"] == answer
        assert "m.relates_to" not in alone.content
        redacted = [one for one in homeserver.asked if "redact" in one.parts]
        assert [one.parts[3] for one in redacted] == [reacted.event_id, again.event_id]
        assert {one.user for one in redacted} == {DICE}


async def test_what_is_in_the_room_is_not_put_again_after_a_restart_of_the_homeserver(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    """The answer to the first attempt is lost, and with it what the homeserver remembers."""
    async with play(database_settings, folder) as stage:
        homeserver, sender = stage.homeserver, stage.app.parts.sender
        lost = [refuse(502, "M_UNKNOWN")]

        def lose_answer(asked: Asked) -> Answer | None:
            if "send" in asked.parts and lost:
                homeserver.take(asked)
                return lost.pop()
            return None

        homeserver.rules.append(lose_answer)
        await sender.put([say("once"), say("after")])
        await homeserver.wait_until(lambda: not lost)
        homeserver.forget_transactions()
        sender.doubt()
        await homeserver.wait_until(lambda: "after" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == ["once", "after"]


async def test_what_was_parked_goes_out_once_among_what_is_on_its_way(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        refused = [refuse(400, "M_BAD_JSON")]

        def rule(asked: Asked) -> Answer | None:
            if asked.content.get("body") == "bad" and refused:
                return refused.pop()
            return away(asked) if is_away else None

        is_away = False
        homeserver.rules.append(rule)
        await parts.sender.put([say("bad"), say("first")])
        await homeserver.wait_until(lambda: "first" in homeserver.texts(ROOM))
        is_away = True
        lines = [f"line {number}" for number in range(20)]
        await parts.sender.put([say(text) for text in lines])
        await homeserver.wait_until(lambda: len(homeserver.of("PUT", "rooms")) > 3)
        (parked,) = await parts.aside.all()
        await parts.aside.retry(parked.name)
        is_away = False
        await homeserver.wait_until(lambda: "bad" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == ["first", *lines, "bad"]
        await wait_until(lambda: not parts.sender.holding())


async def test_after_a_thousand_tries_there_is_still_a_next_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        sender = stage.app.parts.sender
        pause = sender._put_off(TemporaryFailure("away"), 5000)
        assert 40 < pause.seconds < 80


async def test_what_cannot_be_read_any_more_hides_nothing_behind_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(away)
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            await app.parts.sender.put([say(f"line {number}") for number in range(250)])
            await app.parts.database.core.execute(
                "UPDATE outbox SET content = '' WHERE seq <= 120"
            )
        homeserver.rules.clear()
        async with running(settings):
            await homeserver.wait_until(lambda: "line 249" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == [f"line {number}" for number in range(120, 250)]
