"""A door for the command line into the running program: a socket in the state directory.

Anyone who may open the directory may use it; nothing else is asked. JSON over HTTP.
"""

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
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
        for method, path, do in self._promptly_done():
            places.add(method, path, self._promptly(do))
        for method, path, do in self._done_by_all_means():
            places.add(method, path, do)
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

    def _promptly_done(self) -> Iterable[tuple[str, str, Endpoint]]:
        """What takes the database."""
        aside, rotation, audit = self._aside, self._rotation, self._audit
        return (
            ("GET", "/parked", lambda _, __: _answer(self._list())),
            ("DELETE", "/parked", lambda request, _: _tell_of(request, aside.drop_all)),
            ("POST", "/parked/retry", lambda request, _: _tell_of(request, aside.retry_all)),
            ("GET", "/parked/*", lambda _, name: _answer(self._one(aside.get(name), contents))),
            ("POST", "/parked/*/retry",
             lambda _, name: _answer(self._one(aside.retry(name), summary))),
            ("DELETE", "/parked/*", lambda _, name: _answer(self._one(aside.drop(name), summary))),
            ("POST", "/waiting/*/park", lambda _, room: _answer(aside.set_aside(RoomId(room)))),
            ("GET", "/trace/*", lambda _, id_: _answer(steps_of(self._tracer, id_))),
            ("POST", "/keys/rotate", lambda _, __: _tell(rotate(rotation, audit))),
            ("GET", "/keys/check", lambda _, __: _tell(rotation.check())),
            ("DELETE", "/keys/*", lambda _, who: _answer(self._forget_person(UserId(who)))),
            ("GET", "/people/*/copy", lambda _, who: _answer(
                copy_of(UserId(who), self._personal, audit), kind="application/zip"
            )),
            ("DELETE", "/people/*", lambda _, who: _answer(self._erase_person(UserId(who)))),
        )  # fmt: skip

    def _done_by_all_means(self) -> Iterable[tuple[str, str, Endpoint]]:
        """What tells how it is without the database, or waits for it."""
        return (
            ("GET", "/waiting", lambda _, __: _answer(self._standing())),
            ("GET", "/status", lambda _, __: _answer(self._status.look(PATIENCE))),
            ("GET", "/rooms", lambda _, __: _answer(self._rooms.all())),
            ("DELETE", "/rooms/*", lambda request, room: _answer(self._untie(request, room))),
            ("POST", "/reload", lambda _, __: _answer(self._settings(lambda one: one.reload()))),
            ("GET", "/drift", lambda _, __: _answer(self._settings(lambda one: one.drift()))),
        )  # fmt: skip

    async def _standing(self) -> Sequence[dict[str, Any]]:
        return self._aside.standing()

    async def _untie(self, request: Request, room: str) -> dict[str, Any]:
        asked = dict(request.query)
        return await self._rooms.untie(room, asked.get("network", ""), asked.get("channel", ""))

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


async def _tell_of(request: Request, do: Callable[[Choice], AsyncGenerator[Any, None]]) -> Answer:
    """Do it with what was chosen, and answer with its steps."""
    try:
        choice = _choice(request)
    except ValueError:  # Of a command line of another version.
        return Answer(404, encode({"error": "the running Trestle knows no such choice"}))
    return await _tell(do(choice))


async def _tell(steps: AsyncGenerator[Any, None]) -> Answer:
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
