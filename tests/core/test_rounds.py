"""A ring of bridges is stopped; people who say the same at once are not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bridge.core.lanes.landing import NeverStored, Stored, now_stored
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.traffic.arrivals import Arrivals
from bridge.core.traffic.departures import Departures
from bridge.core.traffic.rings import Rings
from bridge.core.traffic.rounds import Rounds
from bridge.sdk.capabilities import Capabilities
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import MessageKind, RemoteMessage, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, RemoteUserId
from bridge.sdk.rich import Rich
from tests.core.ground import CHAT, ROOM, Ground

CARL, DORA = "@_trestle_near_carl:hs", "@_trestle_near_dora:hs"


def crossings(ring: str, seconds: float) -> tuple[int, float]:
    """Let one text go round; how often it crossed, and when it was stopped.

    ``ring``: what the other bridges of it put before a text, in one lap.
    """
    rounds, sender, text, now = Rounds(), CARL, "Good  morning", 0.0
    crossed, stopped = 0, 0.0
    for lap in range(50):
        is_ghost = sender.startswith("@_trestle_")
        if rounds.is_endless(now, now, f"${lap}", sender, text, is_ghost=is_ghost):
            stopped = stopped or now
        else:
            crossed += 1
        # What was stopped goes on here, as what is said by many at once would.
        now, sender = now + seconds, "@far_relay:hs"
        text = f"{ring.format(lap=lap)}<carl> {text}"
    return crossed, stopped


@pytest.mark.parametrize("ring", ["", "<trestle> ", "‹far{lap}› ", "* relay <x> ", "<a b> <c> "])
@pytest.mark.parametrize("seconds", [0.1, 2.0, 100.0])
def test_a_ring_of_bridges_is_stopped_after_two_rounds(ring: str, seconds: float) -> None:
    assert crossings(ring, seconds) == (2, 2 * seconds)


def test_a_ring_that_changes_only_who_says_it_is_stopped_too() -> None:
    rounds = Rounds()
    said = [
        rounds.is_endless(n, n, f"${n}", f"@far_trestle{n}:hs", "<carl> hi", is_ghost=False)
        for n in range(4)
    ]
    assert said == [False, False, True, True]


def test_what_says_the_same_for_ever_without_a_name_is_stopped() -> None:
    for text, most in (("x" * 50, 5), ("beep", 10)):
        rounds = Rounds()
        said = [rounds.is_endless(n, n, f"${n}", CARL, text, is_ghost=True) for n in range(30)]
        assert said == [False] * most + [True] * (30 - most)


def test_people_who_say_the_same_at_once_are_all_heard() -> None:
    people = [f"@_trestle_near_p{number}:hs" for number in range(20)]
    relay, texts = "@far_relay:hs", [f"<{'p' * 50}{number}> +1" for number in range(20)]
    rounds = Rounds()
    heard = [
        *(rounds.is_endless(0, 0, f"$a{one}", one, "+1", is_ghost=True) for one in people),
        # Through one relay, which is no ring, with people of Matrix beside.
        *(rounds.is_endless(1, 1, f"$b{one}", relay, one, is_ghost=False) for one in texts),
        *(
            rounds.is_endless(2, 2, f"$c{n}", "@ann:hs", "x" * 50, is_ghost=False)
            for n in range(20)
        ),
    ]
    assert not any(heard)


def test_one_person_may_be_quick_and_what_is_tried_again_is_said_once() -> None:
    rounds = Rounds()
    assert not any(rounds.is_endless(n, n, f"${n}", CARL, "lol", is_ghost=True) for n in range(9))
    assert not any(
        rounds.is_endless(9, 9, "$long", DORA, "y" * 50, is_ghost=True) for _ in range(30)
    )


@pytest.mark.parametrize(
    ("sender", "text"),
    [
        (CARL, "y" * 50),
        (CARL, "ok"),
        ("@relay:far", f"<ann> {'y' * 50}"),
        ("@relay:far", "<ann> ok"),
    ],
)
def test_what_was_said_over_hours_is_heard_though_it_comes_within_a_second(
    sender: str, text: str
) -> None:
    rounds, is_ghost = Rounds(), sender == CARL
    heard = [
        rounds.is_endless(n / 100, 1e9 + 60 * n, f"${n}", sender, text, is_ghost=is_ghost)
        for n in range(60)
    ]
    assert not any(heard)
    # Nor has one relay repeated another where they were minutes apart.
    for n in range(9):
        relay = f"@relay{n}:far"
        assert not rounds.is_endless(1, 2e9 + 301 * n, f"$r{n}", relay, "<a> +1", is_ghost=False)


@pytest.mark.parametrize("lie", [0.0, -1e9, 9e15])
def test_a_ring_is_stopped_though_strangers_give_their_events_far_off_times(lie: float) -> None:
    rounds, text, stopped = Rounds(), "hi", []
    for lap in range(8):
        # A stranger began it, and says the same between the laps, too.
        at = 1e9 + lap if lap else lie
        stopped.append(rounds.is_endless(lap, at, f"${lap}", "@relay:hs", text, is_ghost=False))
        rounds.is_endless(lap, lie, f"$lie{lap}", "@eve:far", f"<eve> {text}", is_ghost=False)
        text = f"<trestle> <carl> {text}"
    assert stopped == [False, False, False, True, True, True, True, True]


async def test_a_portal_counts_by_the_time_that_is_in_its_events() -> None:
    ground = Ground()
    departures = Departures(ground.portal, ground.house)

    async def crosses(number: int, stamp: int | None) -> bool:
        event = {
            "type": "m.room.message", "event_id": f"${number}", "room_id": ROOM,
            "sender": "@relay:far", "content": {"msgtype": "m.text", "body": "<ann> " + "y" * 50},
        } | ({} if stamp is None else {"origin_server_ts": stamp})  # fmt: skip
        return await departures.read(event, Capabilities()) is not None

    assert all([await crosses(n, 60_000 * n) for n in range(30)])
    assert [await crosses(30 + n, 10**12 + n) for n in range(8)] == [True] * 5 + [False] * 3
    assert [await crosses(40 + n, None) for n in range(8)] == [True] * 5 + [False] * 3
    # The room is told of the first of them.
    (told,) = ground.waiting
    assert told.content["m.relates_to"] == {"m.in_reply_to": {"event_id": "$35"}}
    assert "came back through other bridges, or was said again" in told.content["body"]
    assert departures.rings.trouble.startswith(f"what is said in {ROOM} comes back")


async def test_what_the_room_could_not_be_told_of_is_told_with_the_next_try(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ground = Ground()
    rings = Rings(ground.portal, ground.house)

    async def stops(number: int, stored: Stored = now_stored) -> bool:
        content = {"msgtype": "m.text", "body": "<ann> " + "y" * 50}
        return await rings.stop({
            "event_id": f"${number}", "sender": "@relay:far", "origin_server_ts": 10**12,
            "content": content,
        }, stored)  # fmt: skip

    async def never() -> None:
        raise NeverStored

    assert not any([await stops(number) for number in range(5)])
    with pytest.raises(NeverStored):
        await stops(5, never)
    assert rings.trouble == ""
    assert not ground.waiting
    assert not caplog.records
    ground.failing.add("put event")
    with pytest.raises(TemporaryFailure):
        await stops(5)
    assert not ground.waiting
    assert await stops(5)
    assert await stops(6)
    assert len(ground.waiting) == 1
    # The log hears of the first for a while, whatever became of telling the room.
    assert [vars(record)["event"] for record in caplog.records] == ["goes_round"]


async def test_what_waited_in_our_outbox_is_heard_by_when_it_was_said_on_its_network() -> None:
    ground = Ground()
    arrivals = Arrivals(ChatFacts(ground.portal, ground.house), ground.house)
    other = replace(ground.portal, id=2, chat=RemoteChatId("#other"))
    departures = Departures(other, ground.house)
    stamp = 1_790_000_000_000

    async def cross(minutes: list[float], *, pretends: bool = False) -> list[bool]:
        """Have a bot of the network say the same at those minutes, and all sent at once."""
        crossed = []
        for number, minute in enumerate(minutes):
            said = RemoteMessage(
                chat=CHAT, id=RemoteMessageId(f"{minute} {number}"), body=Rich.plain("y" * 50),
                sender=RemoteUser(id=RemoteUserId("bot"), name="bot"), kind=MessageKind.NOTICE,
                at=datetime.fromtimestamp(stamp / 1000 + 60 * minute, UTC),
            )  # fmt: skip
            await arrivals.receive(said)
            sent = ground.waiting.popleft()
            body = f"<bot> {sent.content['body']}" if pretends else sent.content["body"]
            event = {
                "type": sent.type, "event_id": f"${said.id} {pretends}", "room_id": ROOM,
                "sender": "@relay:far" if pretends else sent.user,
                "content": {**sent.content, "body": body}, "origin_server_ts": stamp,
            }  # fmt: skip
            crossed.append(await departures.read(event, Capabilities()) is not None)
            ground.waiting.clear()  # What the room is told of it.
        return crossed

    over_hours: list[float] = [5.0 * n for n in range(30)]
    assert all(await cross(over_hours))
    assert await cross([1000 + n / 100 for n in range(8)]) == [True] * 5 + [False] * 3
    # Others' word for it is their homeserver's, whatever stands in the event.
    assert not all(await cross([2000 + n for n in over_hours], pretends=True))
