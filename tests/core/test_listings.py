"""A network's list of rooms is kept beside what is said: it holds up nothing."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.model import Outgoing, ParkReason, SendKind
from bridge.sdk.ids import RoomId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, play, settings_for
from tests.core.outgoing import say
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver
from tests.rigs.trestle import running, wait_until


def listing(name: str, *, is_listed: bool, instance: str = "near") -> Outgoing:
    return replace(
        say(name), kind=SendKind.LIST, type="",
        content={"instance": instance, "listed": is_listed},
    )  # fmt: skip


async def test_a_list_that_fails_holds_up_no_message_and_is_given_up(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        settings = settings_for(homeserver, database_settings, folder)
        fails = [True]

        def rule(asked: Asked) -> Answer | None:
            is_list = asked.parts[:2] == ("directory", "list")
            return refuse(500, "M_UNKNOWN") if is_list and fails[0] else None

        def listed() -> list[str]:
            return [a.content["visibility"] for a in homeserver.of("PUT", "directory", "list")]

        homeserver.rules.append(rule)
        async with running(settings) as app:
            sender = app.parts.sender
            await sender.put([listing("in", is_listed=True), say("hello")])
            await homeserver.wait_until(lambda: homeserver.texts(ROOM) == ["hello"])
            await wait_until(lambda: sender.holding() == {ROOM: 1})
            # Of two only the newer counts.
            await sender.put([listing("out", is_listed=False)])
            fails[0] = False
            await homeserver.wait_until(lambda: listed()[-1:] == ["private"])
            await wait_until(lambda: not sender.holding())
            fails[0] = True
            given_up: list[RoomId] = []
            sender.listings.on_given_up = given_up.append
            await sender.put([listing("again", is_listed=True)])
            await homeserver.wait_until(lambda: listed()[-1:] == ["public"])
            sender.listings.patience = timedelta(0)
            await wait_until(lambda: given_up == [ROOM])
            await wait_until(lambda: not sender.waiting)


async def test_a_room_is_in_the_list_of_each_network_for_itself(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    networks = ["far", "near"]
    async with scripted_homeserver() as homeserver:
        settings = settings_for(homeserver, database_settings, folder)
        asked, may_go_on = Counter[str](), asyncio.Event()

        def hold(question: Asked) -> asyncio.Event | None:
            if question.parts[:2] != ("directory", "list"):
                return None
            asked[question.parts[3]] += 1
            return may_go_on

        homeserver.hold = hold
        async with running(settings) as app:
            sender = app.parts.sender
            await sender.put([listing(one, is_listed=True, instance=one) for one in networks])
            await wait_until(lambda: bool(asked))
            # Of what waits only the newest of a network counts.
            await sender.put([listing(f"no-{n}", is_listed=False, instance=n) for n in networks])
            await wait_until(lambda: not sender.standing())
            may_go_on.set()
            await wait_until(lambda: not sender.holding())
        last = {a.parts[3]: a.content["visibility"] for a in homeserver.of("PUT", "directory")}
        assert last == dict.fromkeys(networks, "private")


@pytest.mark.parametrize("content", [{"instance": "near"}, {"listed": True}])
async def test_a_list_that_fails_as_nobody_foresaw_is_put_aside_and_ends_nothing_else(
    database_settings: DatabaseSettings, folder: Path, content: dict[str, Any]
) -> None:
    async with play(database_settings, folder) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        odd = replace(listing("odd", is_listed=True), content=content)
        await parts.sender.put([odd, listing("even", is_listed=True, instance="far"), say("hi")])
        await homeserver.wait_until(lambda: homeserver.texts(ROOM) == ["hi"])
        await homeserver.wait_until(lambda: bool(homeserver.of("PUT", "directory", "list")))
        await wait_until(lambda: not parts.sender.holding())
        (parked,) = await parts.aside.all()
    assert parked.reason is ParkReason.FAILED
    assert parked.detail == "sending it failed with KeyError"
