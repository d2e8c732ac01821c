"""A door for the command line into the running program: a socket in the state directory.

Anyone who may open the directory may use it; nothing else is asked. JSON over HTTP.
"""

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import orjson

from bridge.core.consent.erasure import Erasure
from bridge.core.oversight.aside import Aside
from bridge.core.oversight.byhand import HERE, Choice, copy_of, forget, rotate
from bridge.core.oversight.roomkeeping import RoomKeeping
from bridge.core.oversight.status import PATIENCE, Status
from bridge.core.oversight.tracer import Tracer, steps_of
from bridge.doors.endpoints import Endpoint, Endpoints
from bridge.doors.place import socket_of
from bridge.jsontext import encode
from bridge.matrix.answer import Answer
from bridge.matrix.listener import Listener, Request
from bridge.model import ParkReason
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.audit import Audit
from bridge.storage.personal import PersonalData
from bridge.storage.rotation import Rotation
from bridge.storage.shelf import Parked, contents, summary

log = logging.getLogger(__name__)

_LONGEST_PATH = 100
"""Bytes of a socket's path that every system takes."""
_IDLE_LIMIT = 60.0
_STOP_LIMIT = 2.0


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
        rooms: RoomKeeping,
        rotation: Rotation,
        audit: Audit,
        on_forgotten: Callable[[UserId], Awaitable[None]],
        personal: PersonalData,
        erasure: Erasure,
    ) -> None:
        """``on_forgotten``: called when a person's credentials were destroyed."""
        self._path = socket_of(state_dir)
        self._aside = aside
        self._tracer = tracer
        self._status = status
        self._rooms = rooms
        self._rotation = rotation
        self._audit = audit
        self._on_forgotten = on_forgotten
        self._personal = personal
        self._erasure = erasure
        self._listener: Listener | None = None
        self.reloader: Reloads | None = None
        """Reads the settings again; not there until events are taken."""

    async def start(self) -> None:
        """Listen, or say in the log why the command line must do without."""
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            log.warning(
                "the path of state_dir is too long for a socket: commands like `trestle parked` "
                "work only while Trestle does not run, and SIGHUP must do for `trestle reload`",
                extra={"event": "no_control"},
            )  # fmt: skip
            return
        places = Endpoints()
        places.add("GET", "/parked", self._promptly(self._all))
        places.add("DELETE", "/parked", self._promptly(self._drop_all))
        places.add("POST", "/parked/retry", self._promptly(self._retry_all))
        places.add("GET", "/parked/*", self._promptly(self._show))
        places.add("POST", "/parked/*/retry", self._promptly(self._retry))
        places.add("DELETE", "/parked/*", self._promptly(self._drop))
        places.add("GET", "/waiting", self._waiting)
        places.add("POST", "/waiting/*/park", self._promptly(self._park))
        places.add("GET", "/trace/*", self._promptly(self._trace))
        places.add("GET", "/status", self._look)
        places.add("GET", "/rooms", self._list_rooms)
        places.add("DELETE", "/rooms/*", self._unbridge)
        places.add("POST", "/keys/rotate", self._promptly(self._rotate))
        places.add("GET", "/keys/check", self._promptly(self._check))
        places.add("DELETE", "/keys/*", self._promptly(self._forget))
        places.add("GET", "/people/*/copy", self._promptly(self._copy))
        places.add("DELETE", "/people/*", self._promptly(self._erase))
        places.add("POST", "/reload", self._reload)
        places.add("GET", "/drift", self._drift)
        self._path.unlink(missing_ok=True)  # A killed process leaves it behind.
        listener = Listener(places.serve, _IDLE_LIMIT, name="control")
        await listener.start_at(self._path)
        self._listener = listener

    async def stop(self) -> None:
        """Stop listening."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop(_STOP_LIMIT)
            self._path.unlink(missing_ok=True)

    def _promptly(self, do: Endpoint) -> Endpoint:
        """Do what takes the database if that answers: nobody waits for one that stands still."""

        async def asked(request: Request, one: str) -> Answer:
            try:
                await self._status.refuse_silence()
            except TemporaryFailure as error:
                return Answer(503, encode({"error": str(error)}))
            return await do(request, one)

        return asked

    async def _all(self, request: Request, one: str) -> Answer:
        return await _answer(self._list())

    async def _show(self, request: Request, one: str) -> Answer:
        return await _answer(self._one(self._aside.get(one), contents))

    async def _retry(self, request: Request, one: str) -> Answer:
        return await _answer(self._one(self._aside.retry(one), summary))

    async def _drop(self, request: Request, one: str) -> Answer:
        return await _answer(self._one(self._aside.drop(one), summary))

    async def _retry_all(self, request: Request, one: str) -> Answer:
        return _tell_of(request, self._aside.retry_all)

    async def _drop_all(self, request: Request, one: str) -> Answer:
        return _tell_of(request, self._aside.drop_all)

    async def _waiting(self, request: Request, one: str) -> Answer:
        return Answer(body=encode(self._aside.standing()))

    async def _park(self, request: Request, one: str) -> Answer:
        return await _answer(self._aside.set_aside(RoomId(one)))

    async def _look(self, request: Request, one: str) -> Answer:
        return await _answer(self._status.look(PATIENCE))

    async def _list_rooms(self, request: Request, one: str) -> Answer:
        return await _answer(self._rooms.all())

    async def _unbridge(self, request: Request, one: str) -> Answer:
        asked = dict(request.query)
        return await _answer(
            self._rooms.untie(one, asked.get("network", ""), asked.get("channel", ""))
        )

    async def _trace(self, request: Request, one: str) -> Answer:
        return await _answer(steps_of(self._tracer, one))

    async def _rotate(self, request: Request, one: str) -> Answer:
        return _tell(rotate(self._rotation, self._audit))

    async def _check(self, request: Request, one: str) -> Answer:
        return _tell(self._rotation.check())

    async def _forget(self, request: Request, one: str) -> Answer:
        return await _answer(self._forget_person(UserId(one)))

    async def _copy(self, request: Request, one: str) -> Answer:
        return await _answer(
            copy_of(UserId(one), self._personal, self._audit), kind="application/zip"
        )

    async def _erase(self, request: Request, one: str) -> Answer:
        return await _answer(self._erase_person(UserId(one)))

    async def _reload(self, request: Request, one: str) -> Answer:
        return await _answer(self._settings(lambda reloader: reloader.reload()))

    async def _drift(self, request: Request, one: str) -> Answer:
        return await _answer(self._settings(lambda reloader: reloader.drift()))

    async def _forget_person(self, person: UserId) -> int:
        count = await forget(person, self._rotation, self._audit)
        await self._on_forgotten(person)
        return count

    async def _erase_person(self, person: UserId) -> dict[str, Any]:
        await self._erasure.begin(person, HERE)
        return asdict(await self._erasure.finish(person, HERE))

    async def _settings(self, ask: Callable[["Reloads"], Awaitable[Any]]) -> Any:
        if self.reloader is None:
            raise TemporaryFailure("Trestle is still starting; try again in a moment")
        try:
            return await ask(self.reloader)
        except TrestleError:
            raise
        except Exception as error:
            log.exception(
                "the settings could not be read or applied", extra={"event": "reload_failed"}
            )
            raise TrestleError(
                f"the settings could not be read or applied ({type(error).__name__}); the log "
                "says where it failed"
            ) from error

    async def _list(self) -> Sequence[dict[str, Any]]:
        return [summary(parked) for parked in await self._aside.all()]

    async def _one(
        self, found: Awaitable[Any], write: Callable[[Parked], dict[str, Any]]
    ) -> dict[str, Any]:
        return write(await found)


def _choice(request: Request) -> Choice:
    asked = dict(request.query)
    reason, expected = asked.get("reason"), asked.get("expected")
    return Choice(
        reason=None if reason is None else ParkReason(reason),
        expected=None if expected is None else int(expected),
    )


def _tell_of(request: Request, do: Callable[[Choice], AsyncGenerator[Any, None]]) -> Answer:
    """Do it with what was chosen, and answer with its steps."""
    try:
        choice = _choice(request)
    except ValueError:  # Of a command line of another version.
        return Answer(404, encode({"error": "the running Trestle knows no such choice"}))
    return _tell(do(choice))


def _tell(steps: AsyncGenerator[Any, None]) -> Answer:
    """Answer with a line for each step, as it comes."""
    return Answer(kind="application/x-ndjson", more=_lines_of(steps))


async def _lines_of(steps: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(steps):
            async for step in steps:
                yield orjson.dumps(step) + b"\n"
    except TrestleError as error:
        yield orjson.dumps({"error": str(error)}) + b"\n"


async def _answer(work: Awaitable[Any], *, kind: str = "") -> Answer:
    """Answer with what comes of it: as JSON, or as bytes of that ``kind``."""
    try:
        done: Any = await work
    except ConfigError as error:
        return Answer(422, encode({"error": error.reason, "path": error.path}))
    except TrestleError as error:
        status = 503 if isinstance(error, TemporaryFailure) else 404
        return Answer(status, encode({"error": str(error)}))
    return Answer(body=done, kind=kind) if kind else Answer(body=encode(done))
