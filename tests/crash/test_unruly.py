"""A homeserver that counts as it likes, repeats itself, hangs up; and how like Synapse it is."""

import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, ask, play
from tests.rigs.scale import chance, scaled
from tests.rigs.trestle import Town, wait_until
from tests.rigs.unruly_homeserver import Event, UnrulyHomeserver, body, message, typing

ROOMS = (ROOM, "!second-room")
IN_ONE = 3
DICE_USER = UserId("@_trestle_dice:test.example")
DICE_ACCOUNT = {
    "type": "m.login.application_service", "username": "_trestle_dice", "inhibit_login": True,
}  # fmt: skip
TYPING = {"typing": True, "timeout": 30_000}


async def test_whatever_the_transaction_ids_do_no_event_is_swallowed_and_none_runs_twice(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    dice = chance("unruly")
    async with play(database_settings, folder, rooms=ROOMS) as stage:
        unruly = UnrulyHomeserver(stage.settings, dice)
        texts: dict[str, list[str]] = {room: [] for room in ROOMS}
        before: list[list[Event]] = []
        for number in range(scaled(10_000)):
            events = [ask(f"{number}.{n}", dice.choice(ROOMS)) for n in range(IN_ONE)]
            for event in events:
                texts[event["room_id"]].append(event["content"]["body"].rpartition(" ")[2])
            await put_somehow(unruly, events, before, dice)
            before = [*before[-20:], events]
        await unruly.close()
        assert {room: await stage.heard(room) for room in ROOMS} == texts
        assert await stage.app.parts.items.count_parked() == {}


async def put_somehow(
    unruly: UnrulyHomeserver, events: list[Event], before: list[list[Event]], dice: random.Random
) -> None:
    """Put the events in one of the ways in which homeservers have put them."""
    way = dice.randrange(9)
    earlier = dice.choice(before) if before else []
    name = unruly.next_name()
    match way:
        case 0:  # An id that was used for other events.
            name = str(max(1, int(name) - dice.randrange(1, 10)))
        case 1:  # The numbering begins anew.
            unruly.begin_anew(dice.randrange(1, 5))
            name = unruly.next_name()
        case 2:  # Backwards.
            unruly.begin_anew(max(1, int(name) - 2))
        case 3:  # Known events among new ones, or before them.
            events = [*earlier, *events] if dice.random() < 0.5 else [events[0], *earlier, *events]
        case 4:  # Cut off, perhaps after it was taken.
            await unruly.cut(name, body(events))
        case 5:  # Hung up on, and put under another id afterwards.
            await unruly.cut(name, body(events))
            name = unruly.next_name()
    await unruly.deliver(events, [typing(ROOM, "@alice:test.example")], name)
    if way == 6:  # Again, though it was taken.
        await unruly.deliver(events, name=name)
    if way == 7:  # Again, under another id.
        await unruly.deliver(earlier)


# --- held against the real one ---


def shape(value: Any) -> Any:
    """Keys and types."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value).__name__


@dataclass(frozen=True)
class Taken:
    """One attempt at a transaction."""

    name: str
    content: dict[str, Any]
    headers: frozenset[str]


def find(taken: list[Taken], room: str, where: str, kind: str) -> list[Taken]:
    """The transactions with something of that type about the room."""
    return [
        one
        for one in taken
        if any(e["type"] == kind and e.get("room_id") == room for e in one.content[where])
    ]


@asynccontextmanager
async def recorder(town: Town, answers: list[int]) -> AsyncIterator[list[Taken]]:
    """Stand in Trestle's place before a homeserver, and record what it puts.

    Transactions that tell of typing, which it repeats, are answered with the last of ``answers``,
    which is taken off; all else, such as presence, which may come at any time, with 200.
    """
    taken: list[Taken] = []
    meant: set[str] = set()

    async def answer(request: web.Request) -> web.Response:
        content = await request.json() if request.can_read_body else {}
        status = 200
        if "/transactions/" in request.path:
            headers = frozenset(name.casefold() for name in request.headers)
            taken.append(Taken(request.path.rpartition("/")[2], content, headers))
            if any(edu["type"] == "m.typing" for edu in content.get("ephemeral", ())):
                meant.add(taken[-1].name)
            status = answers.pop() if answers and taken[-1].name in meant else 200
        return web.json_response({}, status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, *town.settings.appservice.listen).start()
        yield taken
    finally:
        await runner.cleanup()


async def test_the_unruly_one_writes_what_synapse_writes_and_repeats_itself_as_synapse_does(
    town: Town,
) -> None:
    answers: list[int] = []
    appservice = town.settings.appservice
    async with (
        recorder(town, answers) as taken,
        HomeserverClient(town.synapse.url, appservice.as_token) as client,
    ):
        await client.ping(appservice.id)  # What it held back for us comes now, and not later.
        alice = await town.person("alice")
        room = await alice.create_room(preset="public_chat")
        with contextlib.suppress(MatrixError):  # It is there already.
            await client.request("POST", path("v3", "register"), content=DICE_ACCOUNT)
        await client.request("POST", path("v3", "rooms", room, "join"), user=DICE_USER, content={})
        await alice.say(room, "said")
        await wait_until(lambda: bool(find(taken, room, "events", "m.room.message")))
        answers[:] = [200, 500, 500]
        await alice.call("PUT", f"v3/rooms/{room}/typing/{alice.id}", TYPING)
        await wait_until(lambda: not answers)
        spoken = find(taken, room, "events", "m.room.message")[0].content
        name = find(taken, room, "ephemeral", "m.typing")[0].name
        attempts = [one for one in taken if one.name == name]
        emptied = {**attempts[0].content, "ephemeral": []}
        assert [one.content for one in attempts[1:]] == [emptied] * 2

        # And now the unruly one, before the same eyes.
        taken.clear()
        answers[:] = [200, 500, 500]
        unruly = UnrulyHomeserver(town.settings)
        assert await unruly.deliver([], [typing(room, alice.id)]) == 3
        assert [shape(one.content) for one in taken] == [shape(one.content) for one in attempts]
        assert len({one.name for one in taken}) == 1
        await unruly.deliver([message("said", 1, room, alice.id)])
        assert shape(taken[-1].content) == shape(spoken)
        assert taken[-1].headers == attempts[-1].headers
        await unruly.close()
