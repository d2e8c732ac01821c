"""The remind bot: its words, its numbers, whose reminders are whose."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.bots.remind.bot import RemindBot
from bridge.bots.remind.settings import RemindSettings
from bridge.bots.remind.spans import read_span, spell_span
from bridge.sdk.testing import FakeBotHost, FakeRoom, check_bot
from tests.rigs.scale import examples

ALICE, BEA = "@alice:example.org", "@bea:example.org"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def a_room(
    host: FakeBotHost | None = None, name: str = "!room:example.org", **settings: int
) -> FakeRoom:
    host = host or FakeBotHost()
    return FakeRoom(RemindBot(RemindSettings(**settings), host), host, name)


async def test_the_remind_bot_keeps_the_contract() -> None:
    said = ["!remind list", "!remind cancel 1", "!remind cancel", "!remind 31d late", "hello"]
    await check_bot(RemindBot, {}, said=["!remind 2h rest", *said])


async def test_a_reminder_is_said_when_it_is_time_and_once() -> None:
    room = a_room()
    assert await room.say("!remind 20m tea") == [
        "I will remind you in 20 minutes. To stop me: !remind cancel 1"
    ]
    assert await room.pass_time(19 * MINUTE) == []
    assert await room.pass_time(MINUTE) == ["Reminder for Alice: tea"]
    assert await room.pass_time(HOUR) == []
    assert await room.say("!remind list") == ["You have no reminders waiting in this room."]


async def test_the_person_is_mentioned_in_a_message_that_rings() -> None:
    host = FakeBotHost()
    room = a_room(host)
    await room.say("!remind 1m tea")
    await room.pass_time(MINUTE)
    (answer,) = room.rung
    assert [node.user for node in answer[0].nodes if hasattr(node, "user")] == [ALICE]
    assert answer[1] == "text"


async def test_one_item_that_runs_twice_is_one_reminder_with_one_number() -> None:
    room = a_room()
    first = await room.say("!remind 20m tea", event_id="$one")
    assert await room.say("!remind 20m tea", event_id="$one") == first
    await room.say("!remind 10m milk", event_id="$two")
    assert (await room.say("!remind list"))[0].splitlines() == [
        "2: in 10 minutes: milk",
        "1: in 20 minutes: tea",
    ]
    assert await room.say("!remind cancel 2", event_id="$three") == ["Reminder 2 is cancelled."]
    assert await room.say("!remind cancel 2", event_id="$three") == ["Reminder 2 is cancelled."]
    assert await room.say("!remind cancel 2") == ["You have no reminder 2 waiting in this room."]
    assert await room.pass_time(HOUR) == [
        "Reminder for Alice: tea",
    ]


async def test_an_item_that_runs_again_after_its_reminder_was_said_sets_no_other() -> None:
    room = a_room()
    first = await room.say("!remind 1s tea", event_id="$one")
    assert await room.pass_time(MINUTE) == ["Reminder for Alice: tea"]
    assert await room.say("!remind 1s tea", event_id="$one") == first
    assert await room.pass_time(MINUTE) == []


async def test_each_sees_and_cancels_only_their_own_of_this_room() -> None:
    host = FakeBotHost()
    room, other = a_room(host), a_room(host, "!other:example.org")
    await room.say("!remind 20m tea", sender=ALICE)
    await other.say("!remind 30m a secret", sender=ALICE)
    await room.say("!remind 10m milk", sender=BEA)
    assert await room.say("!remind list", sender=ALICE) == ["1: in 20 minutes: tea"]
    assert await room.say("!remind list", sender=BEA) == ["1: in 10 minutes: milk"]
    assert await room.say("!remind cancel 2", sender=BEA) == [
        "You have no reminder 2 waiting in this room."
    ]
    assert await room.say("!remind cancel #1", sender=BEA) == ["Reminder 1 is cancelled."]
    assert await room.pass_time(20 * MINUTE) == ["Reminder for Alice: tea"]
    assert await other.pass_time(10 * MINUTE) == ["Reminder for Alice: a secret"]


async def test_one_person_cannot_fill_it_for_all() -> None:
    room = a_room(most_per_person=2)
    for number in (1, 2):
        await room.say("!remind 20m tea", event_id=f"${number}")
    assert await room.say("!remind 20m tea") == [
        "You have 2 reminders waiting already; cancel one of them first."
    ]
    assert (await room.say("!remind 20m tea", event_id="$2"))[0].endswith("cancel 2")
    assert (await room.say("!remind 20m tea", sender=BEA))[0].endswith("cancel 1")
    await room.say("!remind cancel 1")
    assert (await room.say("!remind 20m tea"))[0].endswith("cancel 1")


async def test_a_reminder_that_is_late_says_so() -> None:
    host = FakeBotHost()
    room = a_room(host)
    await room.say("!remind 20m tea")
    host.clock.advance(3 * HOUR)
    assert await room.pass_time(timedelta()) == [
        "Reminder for Alice: tea (this was due 2 hours 40 minutes ago)"
    ]
    assert host.counted == [("reminders", {"what": "set"}), ("reminders", {"what": "said"})]
    assert host.observed == [("late_seconds", 9600.0, {})]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "Say when and what"),
        ("tea", "Say when and what"),
        ("20m", "Say when and what"),
        ("20 m tea", "Say when and what"),
        ("20m\0", "Say when and what"),
        ("list of things", "Say when and what"),
        ("0s tea", "from a second to 30 days"),
        ("31d tea", "from a second to 30 days"),
        ("999999w999999w999999w999999w999999w tea", "from a second to 30 days"),
        ("1s1s1s1s1s1s tea", "Say when and what"),
        ("in 1H30M leave\nnow", "in 1 hour 30 minutes"),
        (f"1m {'x' * 501}", "at most 500 characters"),
        ("1m \ud800", "I will remind you in 1 minute."),
        ("cancel", "Say which one"),
        ("cancel -1", "Say which one"),
        ("cancel 1", "You have no reminder 1"),
    ],
)
async def test_what_it_makes_of_what_people_type(text: str, answer: str) -> None:
    (said,) = await a_room().say(f"!remind {text}")
    assert answer in said


async def test_the_longest_note_fits_whatever_its_characters() -> None:
    room = a_room(longest_text=1500)
    await room.say(f"!remind 1m {'😀' * 1500}")
    assert await room.pass_time(MINUTE) == [f"Reminder for Alice: {'😀' * 1500}"]


@examples(100)
@given(st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=60)))
def test_a_span_is_read_as_it_is_spelt(span: timedelta) -> None:
    words = spell_span(span)
    typed = "".join(
        f"{number}{unit[0]}"
        for number, unit in zip(words.split()[::2], words.split()[1::2], strict=True)
    )
    read, rest = read_span(f"{typed} rest")
    assert read is not None
    assert rest == "rest"
    assert spell_span(read) == words
    assert read <= span + timedelta(seconds=1)


@examples(100)
@given(st.text())
def test_reading_a_span_never_fails(text: str) -> None:
    read_span(text)
