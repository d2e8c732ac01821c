"""A network that is away: its rooms are told, and of what waited too long both sides hear."""

import asyncio
from datetime import date
from pathlib import Path
from time import monotonic

from bridge.app import App
from bridge.core.lanes.lane import Lane
from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from bridge.storage.books import Account, Direction
from tests.flow.networks import irc_module
from tests.flow.rooms import bridge
from tests.rigs.breaking_wire import breaking_wire
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scale import chance
from tests.rigs.trestle import Town, make_modules, make_settings, running, wait_until

LINES = 12
KEPT = 3


async def test_after_a_long_absence_the_newest_are_sent_and_both_sides_hear_of_the_rest(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as irc,
        breaking_wire(irc.port, chance("outage")) as wire,
        irc_user(irc.port, "watcher") as watcher,
    ):
        await watcher.join("#late")
        module = irc_module(irc, mode="relay")
        module["near"][1]["servers"] = [{"host": "127.0.0.1", "port": wire.port, "tls": False}]
        limits = make_settings(folder, tell_after=0.5, late_after=1.0, late_keep=KEPT).limits
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(module), limits=limits
        )
        async with running(settings) as app:
            alice = await town.person("alice")
            room = await bridge(alice, "#late")
            await alice.say(room, "before")
            await watcher.expect("> before")
            await wait_until(lambda: not app.parts.router.waiting)
            wire.cut()
            day = app.parts.database.clock.today()
            first = await alice.say(room, "line 0")
            for number in range(1, LINES):
                await alice.say(room, f"line {number}")
            notice = await alice.wait_for_text(room, "Messages to #late on near wait")
            relates = notice["content"]["m.relates_to"]
            assert relates["m.in_reply_to"]["event_id"] == first
            lane = next(one for name, one in app.parts.router.lanes.items() if "portal" in name)
            await wait_until(lambda: len(lane) == LINES)
            await wait_until(lambda: _youngest_age(lane) > 1.0)
            assert app.parts.router.waiting == LINES
            wire.mend()
            left_out = f"{LINES - KEPT} messages"
            await watcher.expect("NOTICE #late", left_out)
            for number in range(LINES - KEPT, LINES):
                await watcher.expect(f"> line {number}")
            await alice.wait_for_text(room, left_out)
            assert not any("line 3" in line for line in watcher.heard)
            accounts = await _when_all_is_done(app, day)
            assert {one.direction for one in accounts} == {Direction.TO_NETWORK}
            assert sum(one.dropped for one in accounts) >= LINES - KEPT
            assert [one.difference for one in accounts] == [0] * len(accounts)
            told = [e for e in alice.heard(room) if "wait:" in str(e["content"].get("body"))]
            assert len(told) == 1


async def _when_all_is_done(app: App, since: date) -> list[Account]:
    """The accounts of what came from Matrix, once nothing of it is in hand.

    They are of today, and of the day on which it began if that is over meanwhile.
    """
    days = sorted({since, app.parts.database.clock.today()})
    async with asyncio.timeout(PATIENCE):
        while True:
            await app.parts.marker.settle()
            accounts = [(await app.parts.books.count(day))[0] for day in days]
            if not any(one.in_hand for one in accounts):
                return accounts
            await asyncio.sleep(0.05)


def _youngest_age(lane: Lane) -> float:
    *_, (row, _) = lane.places()
    return monotonic() - row.landed_at
