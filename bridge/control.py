"""A door for the command line into the running program: a socket in the state directory.

Who may open the directory may use it; nothing is asked beyond that. JSON over HTTP.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson
from aiohttp import web

from bridge.core.aside import Aside
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError
from bridge.storage.shelf import Parked, contents, summary

log = logging.getLogger(__name__)

_LONGEST_PATH = 100
"""Bytes of a socket's path that every system takes."""


def socket_of(state_dir: Path) -> Path:
    """Where the socket lies."""
    return state_dir / "control"


class Reloads(Protocol):
    """Reads the settings again; the answers are dataclasses."""

    async def reload(self) -> Any: ...
    async def drift(self) -> Any: ...


class ControlServer:
    """Listens while the program runs."""

    def __init__(self, state_dir: Path, aside: Aside) -> None:
        self._path = socket_of(state_dir)
        self._aside = aside
        self._runner: web.AppRunner | None = None
        self.reloader: Reloads | None = None
        """Who reads the settings again; not there before events are taken."""

    async def start(self) -> None:
        """Listen, or say in the log why the command line must do without."""
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            log.warning(
                "the path of state_dir is too long for a socket: `trestle parked` works only "
                "while Trestle does not run, and SIGHUP must do for `trestle reload`",
                extra={"event": "no_control"},
            )  # fmt: skip
            return
        app = web.Application()
        app.router.add_get("/parked", self._all)
        app.router.add_get("/parked/{name}", self._show)
        app.router.add_post("/parked/{name}/retry", self._retry)
        app.router.add_delete("/parked/{name}", self._drop)
        app.router.add_post("/reload", self._reload)
        app.router.add_get("/drift", self._drift)
        self._path.unlink(missing_ok=True)  # A killed process leaves it behind.
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2
        )
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            self._path.unlink(missing_ok=True)

    async def _all(self, request: web.Request) -> web.Response:
        return await _answer(self._list())

    async def _show(self, request: web.Request) -> web.Response:
        return await _answer(self._one(self._aside.get(request.match_info["name"]), contents))

    async def _retry(self, request: web.Request) -> web.Response:
        return await _answer(self._one(self._aside.retry(request.match_info["name"]), summary))

    async def _drop(self, request: web.Request) -> web.Response:
        return await _answer(self._one(self._aside.drop(request.match_info["name"]), summary))

    async def _reload(self, request: web.Request) -> web.Response:
        return await _answer(self._settings(lambda reloader: reloader.reload()))

    async def _drift(self, request: web.Request) -> web.Response:
        return await _answer(self._settings(lambda reloader: reloader.drift()))

    async def _settings(self, ask: Callable[["Reloads"], Awaitable[Any]]) -> Any:
        if self.reloader is None:
            raise TemporaryFailure("Trestle is still starting; try again in a moment")
        return await ask(self.reloader)

    async def _list(self) -> Sequence[dict[str, Any]]:
        return [summary(parked) for parked in await self._aside.all()]  # type: ignore[arg-type]

    async def _one(
        self, found: Awaitable[Any], write: Callable[[Parked], dict[str, Any]]
    ) -> dict[str, Any]:
        return write(await found)


async def _answer(work: Awaitable[Any]) -> web.Response:
    try:
        body: Any = await work
        status = 200
    except ConfigError as error:
        body, status = {"error": error.reason, "path": error.path}, 422
    except TrestleError as error:
        body = {"error": str(error)}
        status = 503 if isinstance(error, TemporaryFailure) else 404
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


async def ask(state_dir: Path, method: str, path: str, *, limit: float = 30) -> Any:
    """Ask the running program; it has ``limit`` seconds. None if none runs.

    Raises ``ConfigError`` if it finds the settings wrong, ``TrestleError`` with another refusal.
    """
    place = socket_of(state_dir)
    if not place.exists():
        return None
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(place)),
                timeout=aiohttp.ClientTimeout(total=limit),
            ) as session,
            session.request(method, f"http://trestle{path}") as response,
        ):
            answer = orjson.loads(await response.read())
            if response.status == 422:
                raise ConfigError(str(answer["error"]), path=answer["path"])
            if response.status != 200:
                raise TrestleError(str(answer["error"]))
            return answer
    except aiohttp.ClientConnectorError:
        return None  # What a killed process left behind.
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TemporaryFailure(f"the running Trestle does not answer: {error}") from error
