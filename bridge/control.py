"""A door for the command line into the running program: a socket in the state directory.

Who may open the directory may use it; nothing is asked beyond that. JSON over HTTP.
"""

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson
from aiohttp import web

from bridge.core.aside import HERE, Aside, Choice
from bridge.core.audit import Audit
from bridge.core.status import Status
from bridge.core.tracer import Tracer, steps_of
from bridge.jsontext import decode, encode
from bridge.model import AuditAction, ParkReason
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.rotation import Rotation
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

    def __init__(
        self,
        state_dir: Path,
        *,
        aside: Aside,
        tracer: Tracer,
        status: Status,
        rotation: Rotation,
        audit: Audit,
        on_forgotten: Callable[[UserId], Awaitable[None]],
    ) -> None:
        """``on_forgotten``: called when a person's credentials were destroyed."""
        self._path = socket_of(state_dir)
        self._aside = aside
        self._tracer = tracer
        self._status = status
        self._rotation = rotation
        self._audit = audit
        self._on_forgotten = on_forgotten
        self._runner: web.AppRunner | None = None
        self.reloader: Reloads | None = None
        """Who reads the settings again; not there before events are taken."""

    async def start(self) -> None:
        """Listen, or say in the log why the command line must do without."""
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            log.warning(
                "the path of state_dir is too long for a socket: commands like `trestle parked` "
                "work only while Trestle does not run, and SIGHUP must do for `trestle reload`",
                extra={"event": "no_control"},
            )  # fmt: skip
            return
        app = web.Application()
        app.router.add_get("/parked", self._all)
        app.router.add_delete("/parked", self._drop_all)
        app.router.add_post("/parked/retry", self._retry_all)
        app.router.add_get("/parked/{name}", self._show)
        app.router.add_post("/parked/{name}/retry", self._retry)
        app.router.add_delete("/parked/{name}", self._drop)
        app.router.add_get("/waiting", self._waiting)
        app.router.add_post("/waiting/{room}/park", self._park)
        app.router.add_get("/trace/{id}", self._trace)
        app.router.add_get("/status", self._look)
        app.router.add_post("/keys/rotate", self._rotate)
        app.router.add_get("/keys/check", self._check)
        app.router.add_delete("/keys/{person}", self._forget)
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

    async def _retry_all(self, request: web.Request) -> web.StreamResponse:
        return await _tell(request, self._aside.retry_all(_choice(request)))

    async def _drop_all(self, request: web.Request) -> web.StreamResponse:
        return await _tell(request, self._aside.drop_all(_choice(request)))

    async def _waiting(self, request: web.Request) -> web.Response:
        return web.json_response(self._aside.standing())

    async def _park(self, request: web.Request) -> web.Response:
        return await _answer(self._aside.set_aside(RoomId(request.match_info["room"])))

    async def _look(self, request: web.Request) -> web.Response:
        return await _answer(self._status.look())

    async def _trace(self, request: web.Request) -> web.Response:
        return await _answer(steps_of(self._tracer, request.match_info["id"]))

    async def _rotate(self, request: web.Request) -> web.StreamResponse:
        await self._audit.record(actor=HERE, action=AuditAction.ROTATE, target="keys")
        return await _tell(request, self._rotation.rotate())

    async def _check(self, request: web.Request) -> web.StreamResponse:
        return await _tell(request, self._rotation.check())

    async def _forget(self, request: web.Request) -> web.Response:
        person = UserId(request.match_info["person"])
        return await _answer(self._forget_person(person))

    async def _reload(self, request: web.Request) -> web.Response:
        return await _answer(self._settings(lambda reloader: reloader.reload()))

    async def _drift(self, request: web.Request) -> web.Response:
        return await _answer(self._settings(lambda reloader: reloader.drift()))

    async def _forget_person(self, person: UserId) -> int:
        count = await forget(person, self._rotation, self._audit)
        await self._on_forgotten(person)
        return count

    async def _settings(self, ask: Callable[["Reloads"], Awaitable[Any]]) -> Any:
        if self.reloader is None:
            raise TemporaryFailure("Trestle is still starting; try again in a moment")
        try:
            return await ask(self.reloader)
        except TrestleError:
            raise
        except Exception as error:
            log.exception("the settings cannot be had", extra={"event": "reload_failed"})
            raise TrestleError(
                f"the settings cannot be had ({type(error).__name__}); the log says where it "
                "failed"
            ) from error

    async def _list(self) -> Sequence[dict[str, Any]]:
        return [summary(parked) for parked in await self._aside.all()]  # type: ignore[arg-type]

    async def _one(
        self, found: Awaitable[Any], write: Callable[[Parked], dict[str, Any]]
    ) -> dict[str, Any]:
        return write(await found)


async def forget(person: UserId, rotation: Rotation, audit: Audit) -> int:
    """Destroy a person's credentials for an admin; how many there were."""
    await audit.record(actor=HERE, action=AuditAction.FORGET, target="keys", subject=person)
    return await rotation.vault.erase(person)


def _choice(request: web.Request) -> Choice:
    reason, expected = request.query.get("reason"), request.query.get("expected")
    return Choice(
        reason=None if reason is None else ParkReason(reason),
        expected=None if expected is None else int(expected),
    )


async def _tell(request: web.Request, steps: AsyncGenerator[Any, None]) -> web.StreamResponse:
    """Answer with a line for each step, as it comes."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        async with aclosing(steps):
            async for step in steps:
                await response.write(orjson.dumps(step) + b"\n")
    except TrestleError as error:
        await response.write(orjson.dumps({"error": str(error)}) + b"\n")
    return response


async def _answer(work: Awaitable[Any]) -> web.Response:
    try:
        body: Any = await work
        status = 200
    except ConfigError as error:
        body, status = {"error": error.reason, "path": error.path}, 422
    except TrestleError as error:
        body = {"error": str(error)}
        status = 503 if isinstance(error, TemporaryFailure) else 404
    return web.Response(status=status, body=encode(body), content_type="application/json")


async def follow(
    state_dir: Path, method: str, path: str, each: Callable[[dict[str, Any]], None]
) -> bool:
    """Ask the running program, and hand on each line of its answer as it comes.

    False if none runs. Raises ``TrestleError`` with its refusal.
    """
    place = socket_of(state_dir)
    if not place.exists():
        return False
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(place)),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=300),
            ) as session,
            session.request(method, f"http://trestle{path}") as response,
        ):
            async for line in response.content:
                told = orjson.loads(line)
                if "error" in told:
                    raise TrestleError(str(told["error"]))
                each(told)
            return True
    except aiohttp.ClientConnectorError:
        return False  # What a killed process left behind.
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        raise TemporaryFailure(f"the running Trestle stopped answering: {error}") from error


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
            raw = await response.read()
            if response.status == 200:
                return decode(raw)
            raise _refusal(response.status, raw)
    except aiohttp.ClientConnectorError:
        return None  # What a killed process left behind.
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TemporaryFailure(f"the running Trestle does not answer: {error}") from error


def _refusal(status: int, raw: bytes) -> TrestleError:
    try:
        answer = orjson.loads(raw)
        said = str(answer["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return TrestleError(f"the running Trestle answers {status}; its log says why")
    if status == 422:
        return ConfigError(said, path=str(answer.get("path", "")))
    return TemporaryFailure(said) if status == 503 else TrestleError(said)
