"""What goes into Matrix waits in the table, not in memory, and goes out in order."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.matrix.intents import MARK
from bridge.model import LinkKind, Outgoing, ParkReason, SendKind, SystemClock
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, ROOM, play, settings_for
from tests.core.outgoing import LostAnswer, away, say
from tests.rigs.owner import owner_of
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver
from tests.rigs.trestle import running, wait_until
from tests.storage.conftest import TurnedClock

MANY = 1500
"""More than a room holds in memory, several times."""

FULL = """
CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END$$;
CREATE TRIGGER is_full BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION is_full()
"""


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
        first, last = say(wanted[0]), say(wanted[-1])
        assert sender.may_wait(first)
        assert sender.may_wait(last)
        assert not sender.may_wait(say("never put", "!elsewhere"))
        stage.homeserver.rules.clear()
        await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == MANY)
        assert stage.homeserver.texts(ROOM) == wanted
        assert stage.homeserver.texts("!elsewhere") == ["elsewhere"]
        await wait_until(lambda: sender.waiting == 0)
        await wait_until(lambda: not sender.holding())
        assert sender._held == 0
        assert not sender.may_wait(last)


async def test_what_fails_as_nobody_foresaw_is_put_aside_and_keeps_nothing_else_waiting(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async def may_go(outgoing: Outgoing) -> bool:
        if outgoing.content["body"] == "odd":
            raise RuntimeError("nobody foresaw it")
        return True

    async with play(database_settings, folder) as stage:
        sender = stage.app.parts.sender
        sender.may_go = may_go
        await sender.put([say("odd"), say("even")])
        await stage.homeserver.wait_until(lambda: "even" in stage.homeserver.texts(ROOM))
        assert stage.homeserver.texts(ROOM) == ["even"]
        await wait_until(lambda: sender.waiting == 0)
        core = stage.app.parts.database.core
        parked = await core.fetchval("SELECT reason FROM outbox WHERE state = 'parked'")
        assert parked == ParkReason.FAILED.value


async def test_a_database_that_is_away_is_not_taken_for_the_homeserver(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    tries, is_back = 0, False

    async def may_go(outgoing: Outgoing) -> bool:
        nonlocal tries
        tries += 1
        if not is_back:
            raise TemporaryFailure("the database is away", retry_after=0.01)
        return True

    async with play(database_settings, folder) as stage:
        sender = stage.app.parts.sender
        sender.may_go = may_go
        await sender.put([say("late")])
        await wait_until(lambda: tries > 5)
        assert not sender.trouble
        stage.homeserver.rules.append(away)
        is_back = True
        await wait_until(lambda: bool(sender.trouble))
        stage.homeserver.rules.clear()
        # Its next try is half a minute away, but what another room takes says that it is back.
        await sender.put([say("soon", "!elsewhere")])
        await stage.homeserver.wait_until(lambda: stage.homeserver.texts(ROOM) == ["late"])
        await wait_until(lambda: not sender.trouble)


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


@pytest.mark.parametrize(("hours", "is_told"), [(-1, True), (21, False)])
async def test_what_is_in_the_room_and_the_homeserver_has_forgotten_is_not_put_again(
    database_settings: DatabaseSettings, folder: Path, hours: int, is_told: bool
) -> None:
    """With the answer to the first attempt: by a restart, the clock set back; or in a day."""
    clock = TurnedClock()
    async with play(database_settings, folder, clock=clock) as stage:
        homeserver, sender = stage.homeserver, stage.app.parts.sender
        homeserver.rules.append(lost := LostAnswer(homeserver))
        await sender.put([say("once"), say("after")])
        await homeserver.wait_until(lambda: lost.is_lost)
        clock.ahead = timedelta(hours=hours)
        if is_told:
            sender.doubt()
        await homeserver.wait_until(lambda: "after" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == ["once", "after"]


async def test_a_clock_that_was_ahead_hides_no_day_in_which_the_homeserver_forgets(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock, passed = TurnedClock(timedelta(hours=9)), 0.0
    async with play(database_settings, folder, clock=clock) as stage:
        homeserver, sender = stage.homeserver, stage.app.parts.sender
        sender.read_back.elapsed = lambda: passed
        homeserver.rules.append(lost := LostAnswer(homeserver))
        await sender.put([say("once")])
        await homeserver.wait_until(lambda: lost.is_lost)
        # Set right, and a day later: the clock tells of fifteen hours.
        clock.ahead, passed = timedelta(hours=24), 24 * 3600.0
        await wait_until(lambda: not sender.holding())
        assert homeserver.texts(ROOM) == ["once"]


async def test_a_change_said_by_itself_is_found_by_what_it_changed_after_a_lost_answer_too(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        homeserver, sender = stage.homeserver, stage.app.parts.sender
        homeserver.rules.append(lost := LostAnswer(homeserver))
        edit = replace(say("once"), about="m0", portal=7, remote_id="e1", link=LinkKind.EDIT)
        await sender.put([edit, say("after")])
        await homeserver.wait_until(lambda: lost.is_lost)
        sender.doubt()
        await homeserver.wait_until(lambda: "after" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == ["once", "after"]
        for _ in range(2):
            (link,) = await sender.links_of(7, "m0")
            assert link.event_id == homeserver.said[0].event_id
            await wait_until(lambda: not sender.holding())


async def test_what_a_person_without_a_device_said_is_not_said_again_after_a_lost_answer(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.rules.append(LostAnswer(homeserver))
        await parts.double_puppets.switch_on(UserId(ALICE))
        await parts.sender.put([replace(say("once"), double=ALICE), say("after")])
        await homeserver.wait_until(lambda: "after" in homeserver.texts(ROOM))
        assert [(said.user, said.text) for said in homeserver.said] == [
            (ALICE, "once"), (DICE, "after")
        ]  # fmt: skip


async def test_at_each_try_of_a_persons_message_the_room_is_read_back_but_a_day_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    an_hour_ago = SystemClock().now() - timedelta(hours=1)
    said_then = {
        "type": "m.room.message", "event_id": "$then", "sender": DICE,
        "origin_server_ts": int(an_hour_ago.timestamp() * 1000),
        "content": {"body": "then", MARK: "then"},
    }  # fmt: skip
    looks, tries = Counter[str](), [refuse(502, "M_UNKNOWN")] * 3

    def rule(asked: Asked) -> Answer | None:
        if asked.parts[2:] == ("messages",):
            before = asked.query.get("from", "")
            # The bot is another reader, and a reconciliation no such look.
            looks[before] += asked.user == DICE and "not_types" in asked.query["filter"]
            return Answer(content={"chunk": [] if before else [said_then], "end": "a day"})
        return tries.pop() if tries and "send" in asked.parts else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        await stage.app.parts.double_puppets.switch_on(UserId(ALICE))
        await stage.app.parts.sender.put([replace(say("late"), double=ALICE)])
        await stage.homeserver.wait_until(lambda: "late" in stage.homeserver.texts(ROOM), 20)
    assert looks == {"": 3, "a day": 1}


async def test_what_somebody_before_the_homeserver_answers_refuses_nothing(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        # A proxy while the homeserver restarts, a firewall, one that says yes to everything.
        others = [Answer(404), Answer(403), Answer(200), Answer(404)]
        homeserver.rules.append(
            lambda asked: others.pop() if others and "send" in asked.parts else None
        )
        await parts.sender.put([say("first"), say("second")])
        await homeserver.wait_until(lambda: "second" in homeserver.texts(ROOM))
        assert (homeserver.texts(ROOM), others) == (["first", "second"], [])
        # But that it is too large will be said of it again.
        homeserver.rules.append(
            lambda asked: Answer(413) if asked.content.get("body") == "large" else None
        )
        await parts.sender.put([say("large"), say("third")])
        await homeserver.wait_until(lambda: "third" in homeserver.texts(ROOM))
        assert await parts.items.count_parked() == {ParkReason.REFUSED: 1}


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


async def test_what_an_event_is_on_the_network_is_known_before_it_is_written(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        known = sender.unwritten.of_event
        lines = [replace(say(name), portal=7, remote_id=name) for name in ("m1", "m2", "m3")]
        async with core.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE message IN SHARE MODE")
            await sender.put(lines)
            await wait_until(lambda: stage.homeserver.texts(ROOM) == ["m1", "m2", "m3"])
            events = [one.event_id for one in stage.homeserver.said]
            await wait_until(lambda: all(known(7, event) for event in events))
            found = [link.remote_id for event in events for link in known(7, event)]
            assert found == ["m1", "m2", "m3"]
            # And when: an answer to what was said just now quotes nothing.
            assert all(link.received_at for event in events for link in known(7, event))
            assert not known(8, events[0])
            assert not known(7, "$another")
            assert await core.fetchval("SELECT count(*) FROM message") == 0
        await wait_until(lambda: not sender.holding())
        assert not any(known(7, event) for event in events)
        rows = await core.fetch("SELECT event_id, remote_id FROM message ORDER BY remote_id")
        assert [row["event_id"] for row in rows] == events


async def test_what_the_homeserver_always_fails_at_is_seen_and_put_aside_by_hand(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def rule(asked: Asked) -> Answer | None:
        is_bad = "bad" in str(asked.content.get("body"))
        return refuse(500, "M_UNKNOWN") if is_bad else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        await parts.sender.put([say("bad"), say("also bad"), say("good")])
        await wait_until(lambda: bool(parts.aside.standing()))
        for left in (3, 2):
            await wait_until(lambda: bool(parts.aside.standing()[0]["because"]))
            (row,) = parts.aside.standing()
            assert (row["room"], row["waiting"]) == (ROOM, left)
            assert "500" in row["because"]
            assert parts.sender.oldest() is not None
            await parts.aside.set_aside(RoomId(ROOM))
            await wait_until(lambda left=left: parts.sender.waiting < left)  # type: ignore[misc]
        await homeserver.wait_until(lambda: homeserver.texts(ROOM) == ["good"])
        await wait_until(lambda: parts.sender.oldest() is None)
        parked = await parts.aside.all()
        assert {one.reason for one in parked} == {ParkReason.FAILED}
        assert all("500" in one.detail for one in parked)
        homeserver.rules.clear()
        await parts.aside.retry(parked[0].name)
        await homeserver.wait_until(lambda: homeserver.texts(ROOM)[1:] == ["bad"])
        with pytest.raises(PermanentFailure):
            await parts.aside.set_aside(RoomId("!nowhere"))


async def test_what_is_put_aside_by_hand_keeps_nothing_waiting_and_stays_where_that_fails(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def rule(asked: Asked) -> Answer | None:
        is_bad = "bad" in str(asked.content.get("body"))
        return refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=3_600_000) if is_bad else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        await parts.sender.put([say("bad"), say("good")])
        await wait_until(lambda: parts.sender.standing()[0].is_resting)
        owner = await owner_of(parts.database)
        await owner.execute(FULL)
        with pytest.raises(TemporaryFailure):
            async with asyncio.timeout(20):
                await parts.sender.set_aside(RoomId(ROOM))
        assert parts.sender.waiting == 2
        assert await parts.aside.all() == []
        await owner.execute("DROP FUNCTION is_full CASCADE")
        await owner.close()
        assert await parts.sender.set_aside(RoomId(ROOM))
        await homeserver.wait_until(lambda: homeserver.texts(ROOM) == ["good"])
        (parked,) = await parts.aside.all()
        assert parked.reason is ParkReason.FAILED


async def test_however_many_rooms_hang_the_others_go_on(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    hanging = [f"!hangs{number}" for number in range(40)]
    tried = Counter[str]()
    end = asyncio.Event()

    def rule(asked: Asked) -> Answer | None:
        room = asked.parts[1] if "send" in asked.parts else ""
        tried[room] += 1
        return refuse(504, "M_UNKNOWN") if room in hanging and tried[room] == 1 else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        sender, homeserver = stage.app.parts.sender, stage.homeserver
        homeserver.hold = lambda asked: (
            end if "send" in asked.parts and tried[asked.parts[1]] > 1
            and asked.parts[1] in hanging else None
        )  # fmt: skip
        try:
            await sender.put([say("hello", room) for room in hanging])
            await homeserver.wait_until(lambda: len(homeserver.said) >= 16)
            await sender.put([say(f"{number}") for number in range(5)])
            await homeserver.wait_until(lambda: len(homeserver.texts(ROOM)) == 5)
        finally:
            end.set()
        await wait_until(lambda: sender.waiting == 0)
