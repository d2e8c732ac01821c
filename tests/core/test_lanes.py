"""A slow lane delays nobody, and its backlog lies in the journal."""

import asyncio
from pathlib import Path
from typing import ClassVar

import orjson
from pydantic import BaseModel

from bridge.app import App
from bridge.core.host.bots import ModuleSeat
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.lane import LONGEST, Item
from bridge.core.lanes.patience import LEAST_PAUSE
from bridge.jsontext import decode, encode
from bridge.matrix.body import parse_transaction
from bridge.matrix.client import MatrixError
from bridge.model import ParkReason, Permission
from bridge.sdk import Call, Command, ModuleInfo, RoomMessage
from bridge.sdk.errors import DeliveryUncertain, PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.rigs.trestle import make_settings, running, wait_until

SLOW, FAST = RoomId("!slow:test.example"), RoomId("!fast:test.example")
BOT = UserId("@_trestle_listener:test.example")


class NoSettings(BaseModel):
    """Nothing to set."""


class Listener:
    """Notes what it hears; in the slow room only while the gate is open."""

    info: ClassVar[ModuleInfo] = ModuleInfo(id="listener", name="Listener", summary="Listens.")
    settings: ClassVar[type[BaseModel]] = NoSettings
    commands: tuple[Command, ...] = ()

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.heard: dict[RoomId, list[str]] = {SLOW: [], FAST: []}

    async def on_message(self, message: RoomMessage, call: Call) -> None:
        """Note it."""
        if message.room == SLOW:
            await self.gate.wait()
        self.heard[message.room].append(call.text)


def _transaction(number: int, rooms: list[RoomId]) -> bytes:
    return orjson.dumps(
        {
            "events": [
                {
                    "type": "m.room.message",
                    "event_id": f"$event-{number}-{place}",
                    "room_id": room,
                    "sender": "@alice:test.example",
                    "content": {"msgtype": "m.text", "body": f"{number}.{place}"},
                }
                for place, room in enumerate(rooms)
            ]
        }
    )


def _seat(app: App, bot: Listener) -> None:
    for room in (SLOW, FAST):
        app.parts.routes.add_seat(
            ModuleSeat(InstanceId("listener"), bot, BOT, room, app.parts.stage, direct_with=None)
        )


async def test_a_standing_lane_keeps_its_backlog_in_the_journal_while_others_go_on(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    settings = make_settings(
        folder / "state", database=database_settings, permissions={"*": Permission.USER},
        item_deadline=300.0,
    )  # fmt: skip
    async with running(settings) as app:
        bot = Listener()
        _seat(app, bot)
        for number in range(60):
            body = _transaction(number, [SLOW] * 50 + [FAST])
            await app.parts.intake.accept(parse_transaction(body, str(number)))
        await wait_until(lambda: len(bot.heard[FAST]) == 60)
        assert app.parts.router.waiting <= LONGEST + 1
        assert bot.heard[SLOW] == []
        # Memory is full: this stays in the journal. All are counted, wherever they are.
        app.parts.intake.memory = 100
        await app.parts.intake.accept(parse_transaction(_transaction(60, [SLOW] * 50), "60"))
        assert app.parts.intake.waiting == 3050
        bot.gate.set()
        await wait_until(lambda: len(bot.heard[SLOW]) == 3050)
        await wait_until(lambda: app.parts.intake.waiting == 0)
        assert bot.heard[SLOW] == [f"{n}.{p}" for n in range(61) for p in range(50)]
        await app.parts.marker.settle()
        assert [row async for row in app.parts.journal.unfinished()] == []


class Unreachable(Listener):
    """Fails as told, each time it hears something."""

    def __init__(self, failures: dict[RoomId, list[Exception]]) -> None:
        super().__init__()
        self.failures = failures

    async def on_message(self, message: RoomMessage, call: Call) -> None:
        """Fail."""
        raise self.failures[message.room].pop(0)


class Impatient(Listener):
    """Fails at once in the slow room, and asks for no pause, until the fast one is heard."""

    most = 5000
    tries = 0

    async def on_message(self, message: RoomMessage, call: Call) -> None:
        """Fail, or note it."""
        if message.room == SLOW and not self.heard[FAST] and self.tries < self.most:
            self.tries += 1
            raise TemporaryFailure("not yet", retry_after=0)
        self.heard[message.room].append(call.text)


async def test_what_is_tried_again_without_a_pause_leaves_others_their_turn(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    settings = make_settings(
        folder / "state", database=database_settings, permissions={"*": Permission.USER}
    )
    async with running(settings) as app:
        bot = Impatient()
        _seat(app, bot)
        await app.parts.intake.accept(parse_transaction(_transaction(1, [SLOW, FAST]), "1"))
        await wait_until(lambda: all(bot.heard.values()))
        assert bot.tries < bot.most


async def test_what_asks_for_no_pause_again_and_again_keeps_nobody_busy_all_the_time(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    settings = make_settings(
        folder / "state", database=database_settings, permissions={"*": Permission.USER}
    )
    async with running(settings) as app:
        bot, now = Impatient(), asyncio.get_running_loop().time
        bot.most = 10
        _seat(app, bot)
        started = now()
        await app.parts.intake.accept(parse_transaction(_transaction(1, [SLOW]), "1"))
        await wait_until(lambda: bool(bot.heard[SLOW]))
        assert now() - started >= bot.most * LEAST_PAUSE


async def test_only_what_may_have_had_an_effect_is_a_suspect_of_the_next_start(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    settings = make_settings(
        folder / "state", database=database_settings, permissions={"*": Permission.USER}
    )
    away = TemporaryFailure("the network is away", retry_after=600)
    async with running(settings) as app:
        bot = Unreachable({SLOW: [away], FAST: [DeliveryUncertain("it broke"), away]})
        _seat(app, bot)
        await app.parts.intake.accept(parse_transaction(_transaction(1, [SLOW, FAST]), "1"))
        await wait_until(lambda: not any(bot.failures.values()))
        left = InFlight(settings.state_dir / "inflight").recover()
        assert {share.item.place for share in left.suspects} == {1}


async def test_that_the_homeserver_does_not_know_us_just_now_is_no_try_of_an_item(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    settings = make_settings(
        folder / "state", database=database_settings, permissions={"*": Permission.USER}
    )  # fmt: skip
    unknown = MatrixError(401, "M_UNKNOWN_TOKEN", "who are you?")
    locked = MatrixError(401, "M_USER_LOCKED", "this account is locked")
    async with running(settings) as app:
        app.parts.router.set_tries(1)
        bot = Unreachable({SLOW: [unknown, unknown, PermanentFailure("no")], FAST: [locked]})
        _seat(app, bot)
        await app.parts.intake.accept(parse_transaction(_transaction(1, [SLOW, FAST]), "1"))
        await wait_until(lambda: not any(bot.failures.values()))
        await wait_until(lambda: app.parts.intake.waiting == 0)
        parked = await app.parts.items.count_parked()
        assert parked == {ParkReason.REFUSED: 1, ParkReason.FAILED: 1}


ODD = [
    b"[" * 800 + b"]" * 800, b'{"a":"\\ud800"}', b'{"\\udc00":[1,9999999999999999999999999999]}',
]  # fmt: skip
"""Legal in JSON, and more than the fast writer takes: deep, half a pair, long."""


class Speechless(ModuleSeat):
    """A seat that fails at telling anybody."""

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Fail."""
        raise RuntimeError("no words")


async def test_whatever_odd_thing_is_put_aside_it_is_kept_and_the_lane_goes_on(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    settings = make_settings(
        folder / "state", database=database_settings, permissions={"*": Permission.USER}
    )
    async with running(settings) as app:
        refusals: list[Exception] = [PermanentFailure("not today")] * len(ODD)
        bot = Unreachable({SLOW: refusals})
        app.parts.routes.add_seat(
            Speechless(InstanceId("listener"), bot, BOT, SLOW, app.parts.stage, direct_with=None)
        )
        for number, odd in enumerate(ODD):
            body = _transaction(number, [SLOW]).replace(b'"m.text"', b'"m.text","x":' + odd)
            await app.parts.intake.accept(parse_transaction(body, str(number)))
        await wait_until(lambda: not refusals and app.parts.router.waiting == 0)
        aside = app.parts.aside
        kept = [decode(one.event) for one in await aside.all()]
        assert [encode(one["content"]["x"]) for one in kept] == ODD
        # They can be tried again, too; and what comes after them is heard.
        bot.failures = {SLOW: [PermanentFailure("still not"), PermanentFailure("never")]}
        for one in (await aside.all())[:2]:
            await aside.retry(one.name)
        await wait_until(lambda: not bot.failures[SLOW] and app.parts.router.waiting == 0)
        assert len(await aside.all()) == len(ODD)
