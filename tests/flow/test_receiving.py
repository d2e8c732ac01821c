"""What a module hands in waits for the database instead of getting lost."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.core.host.hosting import InstanceMetrics
from bridge.core.host.modulehost import ModuleHost
from bridge.core.lanes.patience import persistently
from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.client import HomeserverAway, MatrixError, Reply, refusal_of
from bridge.model import LoginRow, SystemClock
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import (
    MessageKind,
    ModeratorWish,
    RemoteChat,
    RemoteEvent,
    RemoteMessage,
    RemoteUser,
    Wish,
)
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RemoteMessageId, RemoteUserId
from bridge.sdk.login import LoginKind
from bridge.sdk.module import ModuleInfo
from bridge.sdk.rich import Rich
from bridge.sdk.testing import FakeStore
from bridge.settings.records import DatabaseSettings
from bridge.telemetry import Telemetry
from tests.flow.networks import irc_module
from tests.flow.refusing import refusing
from tests.flow.rooms import bridge, joined
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running

BOB = RemoteUser(id=RemoteUserId("bob"), name="Bob")


def said(text: str, chat: str = "hall") -> RemoteMessage:
    return RemoteMessage(
        chat=RemoteChatId(chat), id=RemoteMessageId(text), sender=BOB, kind=MessageKind.TEXT,
        body=Rich.plain(text), at=datetime(2030, 1, 1, tzinfo=UTC),
    )  # fmt: skip


class Told:
    """Remembers what a client told of people, once the storage takes it."""

    def __init__(self, failures: list[DeliveryError]) -> None:
        self._failures = failures
        self.accounts: list[tuple[LoginId, RemoteUserId]] = []
        self.out: set[RemoteUserId] = set()

    async def identify(self, row: LoginRow, account: RemoteUserId) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.accounts.append((row.id, account))

    async def opt_out(self, row: LoginRow, user: RemoteUserId, is_out: bool) -> None:
        if self._failures:
            raise self._failures.pop(0)
        (self.out.add if is_out else self.out.discard)(user)

    def has_opted_out(self, row: LoginRow, user: RemoteUserId) -> bool:
        return user in self.out

    async def obey(self, row: LoginRow, wish: ModeratorWish) -> str:
        if self._failures:
            raise self._failures.pop(0)
        return f"{wish.wish.value} of login {row.id}"


ROW = LoginRow(id=LoginId(7), instance=InstanceId("near"), kind=LoginKind.RELAY, owner=None)


def host_with(
    failures: Sequence[DeliveryError | MatrixError | None],
    stored: list[RemoteEvent],
    told: Told | None = None,
) -> ModuleHost:
    """The real host of a client, in front of a storage that fails so often. None: it does not."""

    left = list(failures)

    async def receive(event: RemoteEvent) -> None:
        if left and (failure := left.pop(0)) is not None:
            raise failure
        stored.append(event)

    info = ModuleInfo(id="test", name="Test", summary="A test.")
    instance = InstanceId("near")
    return ModuleHost(
        instance, FakeStore(), SystemClock(), InstanceMetrics(Telemetry(), instance, info),
        receive, lambda state, reason: None, told or Told([]), ROW,
    )  # fmt: skip


async def test_a_module_waits_while_the_database_is_away_and_nothing_overtakes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored: list[RemoteEvent] = []
    host = host_with([TemporaryFailure("away", retry_after=0.01)] * 3, stored)
    async with asyncio.timeout(PATIENCE):
        await host.receive(said("one"))
        await host.receive(said("two"))
    assert stored == [said("one"), said("two")]
    assert sum("waits to be stored" in one.getMessage() for one in caplog.records) == 1


async def test_a_module_waits_while_the_homeserver_does_not_know_us() -> None:
    stored: list[RemoteEvent] = []
    host = host_with([MatrixError(401, "M_UNKNOWN_TOKEN", "", retry_after=0.01)], stored)
    async with asyncio.timeout(PATIENCE):
        await host.receive(said("one"))
    assert stored == [said("one")]


async def test_what_needs_a_word_of_the_homeserver_waits_for_it_for_a_while_only() -> None:
    stored: list[RemoteEvent] = []
    failures = [HomeserverAway("no answer", retry_after=0.01)] * 2
    host = host_with([*failures, TemporaryFailure("the database is away")], stored)
    host.patience = 0
    async with asyncio.timeout(PATIENCE):
        # Not at once: a homeserver that was only restarted is waited for.
        with pytest.raises(PermanentFailure, match="say it again later"):
            await host.receive(said("one"))
        await host.receive(said("two"))
    assert stored == [said("two")]


def away(times: int) -> list[DeliveryError]:
    return [HomeserverAway("no answer", retry_after=0.01) for _ in range(times)]


async def test_people_who_write_to_somebody_alone_in_one_outage_share_its_patience() -> None:
    stored: list[RemoteEvent] = []
    host = host_with(away(3), stored)
    host.patience = 0
    async with asyncio.timeout(PATIENCE):
        for chat in ("carl", "dora"):
            with pytest.raises(PermanentFailure, match="say it again later"):
                await host.receive(said("hello", chat))
    assert not stored


async def test_an_outage_of_the_homeserver_begins_anew_after_the_last_one() -> None:
    refused = PermanentFailure("nobody here takes that")
    failures = [*away(2), *away(1), None, *away(1), refused, *away(1)]
    stored: list[RemoteEvent] = []
    host = host_with(failures, stored)
    host.patience = host.lull = 0
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(PermanentFailure, match="say it again later"):
            await host.receive(said("one"))
        # Days later it was but restarted.
        await host.receive(said("two"))
        host.lull = 60
        with pytest.raises(PermanentFailure, match="nobody here"):
            await host.receive(said("three"))
        await host.receive(said("four"))
    assert stored == [said("two"), said("four")]


async def test_what_a_module_tells_of_people_waits_likewise() -> None:
    told = Told([TemporaryFailure("away", retry_after=0.01)] * 3)
    host = host_with([], [], told)
    async with asyncio.timeout(PATIENCE):
        await host.identify(BOB.id)
        await host.opt_out(BOB.id)
        assert told.accounts == [(LoginId(7), BOB.id)]
        assert told.out == {BOB.id}
        await host.opt_out(BOB.id, is_out=False)
    assert told.out == set()


async def test_what_those_wish_who_run_a_chat_does_not_wait_and_is_answered() -> None:
    wish = ModeratorWish(
        chat=RemoteChat(id=RemoteChatId("#x"), name="#x"), moderator=BOB, wish=Wish.STATUS
    )
    host = host_with([], [], Told([TemporaryFailure("the database is away")]))
    with pytest.raises(TemporaryFailure):
        await host.obey(wish)
    assert await host.obey(wish) == "status of login 7"


async def test_what_can_never_be_stored_is_refused_to_the_module() -> None:
    host = host_with([PermanentFailure("it holds characters that cannot be stored")], [])
    with pytest.raises(PermanentFailure):
        await host.receive(said("one"))


async def test_a_module_that_waits_can_be_stopped() -> None:
    host = host_with([TemporaryFailure("away", retry_after=3600)], [])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await host.receive(said("one"))


@pytest.mark.parametrize("error", [HomeserverAway, TemporaryFailure])
async def test_the_pause_that_the_homeserver_asks_for_is_kept_and_no_others(
    error: type[TemporaryFailure],
) -> None:
    stored: list[RemoteEvent] = []
    host = host_with([error("wait", retry_after=6)], stored)
    now = asyncio.get_running_loop().time
    began = now()
    async with asyncio.timeout(PATIENCE):
        await host.receive(said("one"))
    assert (now() - began >= 5.99) is (error is HomeserverAway)
    assert stored == [said("one")]


async def test_what_is_tried_for_ever_is_tried_no_sooner_than_the_homeserver_asks_for() -> None:
    failures = [HomeserverAway("wait", retry_after=2)]

    async def act() -> None:
        if failures:
            raise failures.pop()

    now = asyncio.get_running_loop().time
    began = now()
    async with asyncio.timeout(PATIENCE):
        await persistently(act)
    assert now() - began >= 1.99


async def test_a_pause_that_is_asked_for_is_said_in_seconds() -> None:
    body = {"errcode": "M_LIMIT_EXCEEDED", "error": "", "retry_after_ms": 60_000}
    error = refusal_of(Reply(429, body, 60.0))
    assert str(error) == "the homeserver asks for patience for 60 s"


async def test_who_came_and_went_while_the_database_was_away_is_known_afterwards(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    async with run_ngircd() as server:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(server))
        )
        async with (
            running(settings),
            irc_user(server.port, "carl") as carl,
            irc_user(server.port, "dora") as dora,
        ):
            await carl.join("#here")
            room = await bridge(alice, "#here")
            carl.say("PRIVMSG #here :hello")
            await alice.wait_for_text(room, "hello")
            assert joined(alice, room) == {"carl"}
            async with refusing(database_settings):
                await dora.join("#here")
                carl.say("PART #here :bye")
            await alice.wait_until(lambda: joined(alice, room) == {"dora"})
