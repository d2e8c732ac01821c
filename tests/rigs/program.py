"""Trestle as a program of its own, to be killed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bridge.demo.processes import Program, dies_with_us, free_port
from bridge.settings.records import Settings
from bridge.wholefile import write_whole
from tests.rigs.yaml import dump

WAIT_SECONDS = 180.0


class TrestleProgram:
    """``python -m bridge run`` on a written config; may be killed and started again."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        extra: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.env = dict(env or {})
        """What its environment has beside ours, from the next start on."""
        self.ops_port = free_port()
        self.restarts = 0
        self.settings = settings
        self._folder = folder
        self.config = folder / "config.yaml"
        self.configure(settings, extra)
        self.program = Program("Trestle", folder / "trestle.log")

    def configure(self, settings: Settings, extra: Mapping[str, Any]) -> None:
        """Write these settings, for its next start or when it reads them again."""
        self.settings = settings
        write_whole(self.config, dump(self._document(extra)).encode())

    def _document(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        appservice = self.settings.appservice
        names = ("hs_token", "hs_token_old")
        return {
            "homeserver": {
                "url": self.settings.homeserver.url,
                "server_name": self.settings.homeserver.server_name,
            },
            "appservice": {
                "listen": str(appservice.listen),
                "as_token": appservice.as_token.reveal(),
                "sender_localpart": appservice.sender_localpart,
                **{
                    name: token.reveal()
                    for name, token in zip(names, appservice.hs_tokens, strict=False)
                },
            },
            "database": {"url": self.settings.database.url},
            "state_dir": str(self.settings.state_dir),
            "ops": {"listen": f"127.0.0.1:{self.ops_port}"},
            "modules": {
                name: {"module": module.module, **module.options}
                for name, module in self.settings.modules.items()
            },
            **extra,
        }

    async def start(self, limit: float = WAIT_SECONDS, *, tries: int = 2) -> None:
        """Start it, and return when it takes events.

        What was away or in use at its start may be there now: for such a reason it is started
        once more, as a service manager does. Raises ``AssertionError`` if it ends, and
        ``TimeoutError`` if it is not ready within the limit, both with its last words.
        """
        for left in reversed(range(tries)):
            ended = await self._start_once(limit)
            if ended is None:
                return
            if ended != os.EX_TEMPFAIL or not left:
                raise AssertionError(f"ended with {ended}: {self.program.last_words(20)}")

    async def _start_once(self, limit: float) -> int | None:
        """Start it; None when it takes events, or how it ended before."""
        self.program = Program("Trestle", self._folder / "trestle.log")
        await self.program.start(
            [sys.executable, "-m", "bridge", "run", "-c", str(self.config)],
            prepare=dies_with_us(signal.SIGTERM),
            env=self.env,
        )
        async with self._within(limit, "was not ready"):
            while not await self.is_ready():
                if self.program.exit_code is not None:
                    return self.program.exit_code
                await asyncio.sleep(0.02)
        return None

    @asynccontextmanager
    async def _within(self, limit: float, trouble: str) -> AsyncIterator[None]:
        """Limit the block; on a timeout say what was waited for and the program's last words."""
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError as error:
            raise TimeoutError(
                f"it {trouble} within {limit:g} s: {self.program.last_words(20)}"
            ) from error

    async def is_ready(self) -> bool:
        """Whether it takes events."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.ops_port}/ready") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        """End it as ``kill -9`` does."""
        await self.program.kill()

    async def ask(self, *words: str, code: int = 0) -> str:
        """Run another command of ours on the same config; give what it says."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", *words, "-c", str(self.config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with self._within(WAIT_SECONDS, f"had no end of {' '.join(words)}"):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = said.decode()
        assert process.returncode == code, text
        return text

    async def parked(self) -> list[dict[str, Any]]:
        """What is parked, as the command tells it."""
        return list(json.loads(await self.ask("parked", "list", "--json")))

    async def wait_for_parked(self, number: int) -> list[dict[str, Any]]:
        """Wait until so many are parked; give them."""
        async with self._within(WAIT_SECONDS, f"had not {number} parked"):
            while len(found := await self.parked()) != number:
                await asyncio.sleep(0.1)
        return found

    async def keep_alive(self) -> None:
        """Start it again whenever it ends, as a service manager does. Runs until cancelled."""
        while True:
            await self.wait_until_ended(600)
            self.restarts += 1
            try:
                await self.start()
            except (AssertionError, TimeoutError):
                continue  # It ended before it was ready, or soon will: it is started again.

    async def wait_until_ended(self, limit: float = WAIT_SECONDS) -> int | None:
        """Wait for it to end by itself; give its exit code.

        Raises ``TimeoutError`` with its last words.
        """
        async with self._within(limit, "did not end"):
            while self.program.exit_code is None:
                await asyncio.sleep(0.02)
        return self.program.exit_code

    def log_text(self) -> str:
        """All it has written, over every start."""
        return (self._folder / "trestle.log").read_text(errors="replace")


@asynccontextmanager
async def trestle_program(
    settings: Settings, folder: Path, *, env: Mapping[str, str] | None = None, **extra: Any
) -> AsyncIterator[TrestleProgram]:
    """Run it until the block ends."""
    program = TrestleProgram(settings, folder, extra, env)
    try:
        await program.start()
        yield program
    finally:
        await program.program.stop(limit=25)
