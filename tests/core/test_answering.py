"""When the homeserver has its answer, and when the module what was said."""

import asyncio
from pathlib import Path

import orjson
import pytest

from bridge.matrix.body import parse_transaction
from bridge.settings.records import DatabaseSettings
from tests.core.process import EVENT, Listener, Process, processes


@pytest.mark.parametrize(("events", "is_with_it"), [(1, True), (2, False)])
async def test_what_came_alone_is_with_its_module_first_and_of_more_the_answer_goes_first(
    database_settings: DatabaseSettings, folder: Path, events: int, is_with_it: bool
) -> None:
    async with processes(database_settings, folder) as kept:
        listener = Listener("portal:1")
        process = Process(*kept, folder, [listener])
        process.intake.open()
        said = [{**EVENT, "event_id": f"$said{number}"} for number in range(events)]
        async with asyncio.TaskGroup() as group, asyncio.timeout(120):
            router = group.create_task(process.router.run())
            await asyncio.sleep(0)  # It has begun.
            await process.intake.accept(parse_transaction(orjson.dumps({"events": said}), "1"))
            assert listener.heard.is_set() is is_with_it
            await listener.heard.wait()
            router.cancel()
