"""Up to where channels are heard, over restarts."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.networks.irc.network.history import Mark, Marks
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RemoteChatId, RemoteUserId
from tests.irc.stage import Network, chat, listening
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import scripted_server

AT = datetime(2026, 11, 25, 10, tzinfo=UTC)


@pytest.mark.parametrize("raw", [b"", b"nonsense id", b"\xff\xfe", b"2026-13-40T00:00:00 x"])
def test_a_mark_that_cannot_be_read_is_none(raw: bytes) -> None:
    assert Mark.decode(raw) is None


def test_a_mark_reads_back_as_it_was() -> None:
    mark = Mark.decode(b"2026-11-25T10:00:00+00:00 42X~1795633733~0")
    assert mark is not None
    assert Mark.decode(mark.encode()) == mark


class Meddled(MemoryStore):
    """A store in which something happens while a row is being written, the first time."""

    meddle: Callable[[str], Awaitable[None]] | None = None
    is_away = False

    async def put(self, key: str, value: bytes, **kept: Any) -> None:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            await meddle(key)
        await super().put(key, value, **kept)

    async def delete(self, key: str) -> None:
        if self.is_away:
            raise TemporaryFailure("away")
        await super().delete(key)


def noted(store: MemoryStore) -> Marks:
    """Marks of three channels that are still to be written."""
    marks = Marks(store)
    for name in ("#a", "#b", "#c"):
        marks.note(RemoteChatId(name), Mark(AT, "m10"))
    return marks


async def test_a_channel_may_be_left_while_the_mark_of_another_is_being_written() -> None:
    store = Meddled()
    marks = noted(store)
    left: list[str] = []

    async def leave_others(key: str) -> None:
        left.extend({"#a", "#b", "#c"} - {key.removeprefix("heard:")})
        for name in left:
            await marks.forget(RemoteChatId(name))

    store.meddle = leave_others
    await marks.write()
    assert len(left) == 2
    assert set(store.rows) == {f"heard:{one}" for one in {"#a", "#b", "#c"} - set(left)}


async def test_a_channel_that_is_left_while_its_mark_is_being_written_has_none() -> None:
    store = Meddled()
    marks = noted(store)
    left: list[str] = []

    async def leave(key: str) -> None:
        left.append(key)
        await marks.forget(RemoteChatId(key.removeprefix("heard:")))

    store.meddle = leave
    await marks.write()
    assert set(store.rows) == {"heard:#a", "heard:#b", "heard:#c"} - set(left)
    assert set(await Marks(store).load()) == {one.removeprefix("heard:") for one in store.rows}


async def test_what_is_heard_or_left_at_a_bad_moment_is_written_the_next_time() -> None:
    store = Meddled()
    marks = noted(store)

    async def hear_more(key: str) -> None:
        marks.note(RemoteChatId(key.removeprefix("heard:")), Mark(AT, "m11"))

    store.meddle = hear_more
    await marks.write()
    await marks.write()
    assert sum(b"m11" in one for one in store.rows.values()) == 1
    store.is_away = True
    with pytest.raises(TemporaryFailure):
        await marks.forget(RemoteChatId("#a"))
    assert set(await marks.load()) == {"#b", "#c"}
    store.is_away = False
    await marks.write()
    assert set(store.rows) == {"heard:#b", "heard:#c"}


async def test_where_a_mark_cannot_be_forgotten_for_the_moment_the_bans_are_all_the_same() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        store = network.store = Meddled()
        async with listening(server, network) as (relay, _, _, _):
            banned, room = network.connector._network.banned, chat("#room")
            banned.note(room.id, "*!*@far.test", RemoteUserId("carl"))
            store.is_away = True
            with pytest.raises(TemporaryFailure):
                await relay.leave(room, "unbridged")
            assert not banned.knows(room.id, "*!*@far.test")
