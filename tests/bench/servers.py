"""The two sides: each a process that counts what reaches its no-op module.

``python -m tests.bench.servers trestle PORT TOKEN FOLDER`` or ``... mautrix PORT TOKEN FOLDER``.
A GET of ``/count`` on PORT + 1 gives the events handled so far and the CPU seconds used by the
process and its children; ``/count?last_at`` also when the newest events came.
"""

import asyncio
import os
import resource
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import uvloop
from aiohttp import web
from pydantic import BaseModel

from bridge.app import App
from bridge.app import run as run_trestle
from bridge.core.host.bots import ModuleSeat
from bridge.model import Permission
from bridge.sdk import BotHost, Call, Command, ModuleInfo, RoomId, RoomMessage, UserId
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings.records import Address
from tests.bench.load import ROOMS, room
from tests.bench.processes import children_of, cpu_of
from tests.rigs.trestle import make_settings

SERVER = "bench.example"


class Count:
    """What reached the module, and when."""

    def __init__(self) -> None:
        self.events = 0
        self.last_at: deque[float] = deque(maxlen=5000)
        """When the newest events came, by the clock that all processes share."""


class NoSettings(BaseModel):
    """Nothing to set."""


class NoOpBot:
    """A module that does nothing with a message."""

    info: ClassVar[ModuleInfo] = ModuleInfo(id="noop", name="No-op", summary="Does nothing.")
    settings: ClassVar[type[BaseModel]] = NoSettings
    commands: tuple[Command, ...] = ()

    def __init__(self, settings: BaseModel, host: BotHost | None) -> None:
        self.count = Count()

    async def on_message(self, message: RoomMessage, call: Call) -> None:
        """Count it."""
        self.count.events += 1
        self.count.last_at.append(time.perf_counter())


async def trestle(port: int, token: str, folder: Path) -> None:
    """Trestle with everything on: embedded Postgres, sealing, marks."""
    settings = make_settings(folder / "state", permissions={"*": Permission.USER})
    appservice = replace(
        settings.appservice, listen=Address("127.0.0.1", port), hs_tokens=(Secret(token),)
    )
    bot = NoOpBot(NoSettings(), None)

    def seat(app: App) -> None:
        for number in range(ROOMS):
            app.parts.routes.add_seat(ModuleSeat(
                InstanceId("noop"), bot, UserId(f"@_trestle_noop:{SERVER}"),
                RoomId(room(number)), app.parts.stage, direct_with=None,
            ))  # fmt: skip

    await _count_on(port + 1, bot.count)
    await run_trestle(replace(settings, appservice=appservice), on_ready=seat)


async def mautrix(port: int, token: str, folder: Path) -> None:
    """mautrix-python's AppService with a handler that does nothing."""
    from mautrix.appservice import AppService  # noqa: PLC0415 - only its own side pays for it

    count = Count()
    os.chdir(folder)  # It keeps a file there.
    service = AppService(
        server="http://127.0.0.1:9", domain=SERVER, as_token="as-token", hs_token=token,
        bot_localpart="bot", id="bench",
        aiohttp_params={"client_max_size": 64 * 1024 * 1024},
    )  # fmt: skip

    async def handle(event: Any) -> None:
        count.events += 1
        count.last_at.append(time.perf_counter())

    service.matrix_event_handler(handle)
    await _count_on(port + 1, count)
    await service.start("127.0.0.1", port)
    await asyncio.Event().wait()


async def _count_on(port: int, count: Count) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({
            "events": count.events, "cpu": cpu_seconds(),
            "last_at": list(count.last_at) if "last_at" in request.query else [],
        })  # fmt: skip

    app = web.Application()
    app.router.add_get("/count", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


def cpu_seconds() -> float:
    """CPU of this process, and of all processes below it (Postgres), living or ended."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return mine.ru_utime + mine.ru_stime + cpu_of(children_of(os.getpid()))


if __name__ == "__main__":
    side, port_text, secret, where = sys.argv[1:5]
    work = trestle if side == "trestle" else mautrix
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(int(port_text), secret, Path(where)))
