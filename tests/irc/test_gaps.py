"""For how long what is said waits until a channel's gap is filled."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.connections.reader import Reader
from bridge.networks.irc.network.history import (
    ANSWER_SECONDS,
    MOST_HELD,
    MOST_TIMES,
    Heard,
    History,
    Mark,
)
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Batch, Incoming, Line
from bridge.sdk.ids import RemoteChatId
from tests.irc.histories import ISUPPORT
from tests.irc.loops import SteppedLoop, run_stepped

ROOM = RemoteChatId("#room")


class Reading:
    """A history of one channel and what is said to it, with the time as the test says."""

    def __init__(self) -> None:
        marks = {ROOM: Mark(when(10), "m10")}
        self.history = History(Isupport().with_tokens(ISUPPORT.split()), marks)
        self.now = 0.0
        self.asked: list[str] = []
        self.told: list[str] = []
        self.mark = ""
        """Up to where the channel is heard once all that was told is stored."""
        self.history.enter(ROOM, "#room", self.now)

    async def write(self) -> None:
        """Have what is asked for written."""

        async def say(one: Line) -> None:
            self.asked.append(one.params[2])

        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self.history.keep_asking(say, lambda: self.now)

    def hear(self, command: str, kind: str = "", *, is_over: bool = False) -> None:
        """Follow a line that is not said to the channel, or begins or ends a page."""
        batch = Batch(kind, ("#room",), "h", is_over=is_over) if kind else None
        find = {"#room": ROOM}.get
        self._tell(self.history.handle(Incoming(command, batch=batch), find, self.now))

    def say(self, *seconds: int, replayed: bool = False) -> None:
        """Follow messages."""
        for second in seconds:
            self.hear("PRIVMSG", "chathistory" if replayed else "")
            mark = Mark(when(second), f"m{second}")
            if replayed:
                self.history.count(ROOM)
                if not self.history.is_wanted(ROOM, mark.msgid, mark.at):
                    continue
            # What is told has no event here: where it stands is enough.
            self._tell(self.history.take(Heard(None, ROOM, mark), replayed=replayed))

    def page(self, *seconds: int) -> None:
        """Follow a page of an answer."""
        self.hear("BATCH", "chathistory")
        self.say(*seconds, replayed=True)
        self.hear("BATCH", "chathistory", is_over=True)

    def _tell(self, heard: list[Heard]) -> None:
        for one in heard:
            self.told.append(one.mark.msgid if one.mark else "unmarked")
            self.mark = one.mark.msgid if one.mark else self.mark


def when(second: int) -> datetime:
    return datetime(2026, 11, 25, 10, 0, second, tzinfo=UTC)


async def test_an_answer_may_take_long_as_long_as_it_goes_on() -> None:
    reading = Reading()
    await reading.write()
    reading.hear("BATCH", "chathistory")
    for second in (11, 12, 13):
        reading.now += ANSWER_SECONDS - 1
        reading.say(second, replayed=True)
        reading.say(second + 20)
    reading.hear("BATCH", "chathistory", is_over=True)
    reading.now += ANSWER_SECONDS - 1
    reading.say(34)  # The next question is not written yet.
    await reading.write()
    reading.now += ANSWER_SECONDS - 1
    reading.page(14)
    assert reading.asked == ["msgid=m10", "msgid=m13"]
    assert reading.told == [f"m{one}" for one in (11, 12, 13, 14, 31, 32, 33, 34)]


async def test_from_a_silent_server_the_gap_stays_open_and_is_asked_for_again() -> None:
    reading = Reading()
    await reading.write()
    reading.hear("BATCH", "chathistory")
    reading.say(11, replayed=True)
    reading.say(31)
    reading.now += ANSWER_SECONDS + 1
    reading.say(32)
    # They are told, but the channel is heard only up to before the gap.
    assert (reading.told, reading.mark) == (["m11", "unmarked", "unmarked"], "m11")
    await reading.write()
    assert reading.asked == ["msgid=m10", "msgid=m11"]
    # The answer comes late, and the other one after that.
    reading.say(12, 13, replayed=True)
    reading.hear("BATCH", "chathistory", is_over=True)
    assert (reading.told[3:], reading.mark) == (["m12", "m13"], "m13")
    await reading.write()
    reading.page(12, 13, 14)
    await reading.write()
    reading.page(14, 31)
    assert reading.asked == ["msgid=m10", "msgid=m11", "msgid=m13", "msgid=m14"]
    assert (reading.told[5:], reading.mark) == (["m14", "m32"], "m32")
    reading.say(33)
    assert reading.told[-1] == "m33"


async def test_a_server_that_never_answers_is_asked_less_and_less_and_then_no_more() -> None:
    reading = Reading()
    reading.say(31)
    for _ in range(MOST_TIMES):
        assert reading.mark == ""
        await reading.write()
        reading.now += ANSWER_SECONDS * 2**MOST_TIMES
        reading.hear("PONG")
    # Given up: the next connection does not ask for what was told since.
    assert (reading.told, reading.mark) == (["unmarked", "m31"], "m31")
    await reading.write()
    reading.now += ANSWER_SECONDS * 2**MOST_TIMES
    reading.say(32)
    assert reading.asked == ["msgid=m10"] * MOST_TIMES
    assert reading.told[2:] == ["m32"]


async def test_what_is_said_waits_not_for_long_for_a_question_that_is_not_written() -> None:
    reading = Reading()
    reading.say(31)
    reading.now += ANSWER_SECONDS - 1
    reading.say(32)
    assert reading.told == []
    reading.now += 2
    reading.say(33)
    assert reading.told == ["unmarked"] * 3
    # Flood control lets it be written at last: once, and the gap is filled.
    reading.now += 100 * ANSWER_SECONDS
    reading.say(34)
    await reading.write()
    reading.page(11)
    assert reading.asked == ["msgid=m10"]
    assert reading.told[3:] == ["unmarked", "m11", "m34"]


async def test_no_more_is_held_back_than_there_is_room_for() -> None:
    reading = Reading()
    reading.say(*[31] * MOST_HELD)
    assert reading.told == []
    reading.say(32, 33)
    assert reading.told == ["unmarked"] * (MOST_HELD + 2)


def test_what_is_held_back_is_told_in_its_time_though_nothing_more_is_heard() -> None:
    async def hold(loop: SteppedLoop) -> None:
        reading = Reading()
        told: list[str] = []

        async def put(*heard: Heard) -> None:
            told.extend(one.mark.msgid if one.mark else "unmarked" for one in heard)

        async with asyncio.TaskGroup() as tasks:
            releasing = tasks.create_task(reading.history.keep_releasing(put, loop.time))
            reading.say(31, 32)
            await loop.turn()
            loop.now += ANSWER_SECONDS - 1
            await loop.turn()
            assert told == []
            loop.now += 2
            await loop.turn()
            assert told == ["unmarked"] * 2
            # What is said from then on waits no more; and while nothing can be late, nobody looks.
            reading.now = loop.now
            reading.say(33)
            assert reading.told == ["unmarked"]
            assert not loop.has_timers
            for _ in range(MOST_TIMES):
                await reading.write()
                await loop.turn()
                assert loop.has_timers
                reading.now = loop.now = loop.now + ANSWER_SECONDS * 2**MOST_TIMES
                await loop.turn()
            # Asked for again and again without a line from the server, then given up.
            assert reading.asked == ["msgid=m10"] * MOST_TIMES
            assert told == ["unmarked"] * 2 + ["m33"]
            assert not loop.has_timers
            releasing.cancel()

    run_stepped(hold)


def test_what_lies_unread_because_we_are_slow_is_no_silence_of_the_server() -> None:
    server = {"host": "127.0.0.1", "port": 1, "tls": False}
    settings = IrcSettings.model_validate({"servers": [server], "own_network": True})

    async def listen(loop: SteppedLoop) -> None:
        reader = Reader(None)
        streams = (reader, cast(Any, SimpleNamespace(transport=None)))
        connection = Connection(streams, settings.servers[0], settings, Flood(1, 1.0))
        reader.feed_data(b":bob!b@h PRIVMSG #room :one\r\n")
        loop.now += 5
        assert connection.waited == 0
        await connection.read()
        assert connection.waited == 0
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(connection.read())
            await asyncio.sleep(0)
            loop.now += 3
            # Also while nothing has come yet.
            assert connection.waited == 3
            reader.feed_data(b":bob!b@h PRIVMSG #room :two\r\n")
            await reading
        loop.now += 5
        assert connection.waited == 3

    run_stepped(listen)
