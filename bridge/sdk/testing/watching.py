"""Sees what a module does behind its calls: sockets, tasks, a blocked loop, secrets in logs."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

BLOCKED_SECONDS = 0.25
_SAMPLES = 4
"""So many looks in a row must find the module at work. One could be a slow machine's fault."""
_LOOK_SECONDS = 0.05
_IO = {
    "open": "opened the file",
    "socket.bind": "opened a socket for",
    "socket.connect": "connected to",
    "socket.getaddrinfo": "looked up",
    "socket.gethostbyname": "looked up",
    "subprocess.Popen": "started",
    "os.system": "started",
}

_WATCH: ContextVar["Watch | None"] = ContextVar("trestle_watch", default=None)
_hooked = threading.Event()


class Watch(logging.Handler):
    """What the code in :meth:`watching` and the tasks that it made did."""

    def __init__(self, files: Collection[str]) -> None:
        super().__init__(logging.DEBUG)
        self._files = files
        self._tasks: list[asyncio.Task[Any]] = []
        self._sockets: WeakSet[Any] = WeakSet()
        self._over = False
        self._beat = threading.Event()
        self._pause = threading.Event()
        self.io: list[str] = []
        self.logged: list[str] = []
        self.blocked = ""
        """Where the module kept the event loop waiting."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is logged."""
        text = record.getMessage()
        if record.exc_info:
            text += "".join(traceback.format_exception(*record.exc_info))
        self.logged.append(text)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for the length of the block.

        Raises ``AssertionError`` if the module kept the event loop waiting in it.
        """
        if not _hooked.is_set():
            _hooked.set()  # A hook cannot be taken away again; without a watch it does nothing.
            sys.addaudithook(_on_audit)
        loop = asyncio.get_running_loop()
        former = loop.get_task_factory()
        loop.set_task_factory(self._factory(former))
        looker = threading.Thread(target=self._look, args=(loop,), daemon=True)
        token = _WATCH.set(self)
        looker.start()
        root = logging.getLogger()
        root.addHandler(self)
        level = root.level
        root.setLevel(logging.DEBUG)  # Somebody will switch it on one day.
        try:
            yield
        except AssertionError as error:
            self._end(looker)
            self.check_blocked(error)  # It explains the rest.
            raise
        finally:
            root.setLevel(level)
            root.removeHandler(self)
            _WATCH.reset(token)
            loop.set_task_factory(former)
            self._end(looker)
        self.check_blocked()

    def _end(self, looker: threading.Thread) -> None:
        self._over = True
        self._beat.set()
        self._pause.set()
        looker.join()

    def check_blocked(self, error: AssertionError | None = None) -> None:
        """Raise ``AssertionError`` if the module kept the event loop waiting."""
        if self.blocked:
            raise AssertionError(
                f"it keeps the whole program waiting ({self.blocked}); await instead, or use "
                "asyncio.to_thread"
            ) from error

    @contextmanager
    def quiet(self, what: str, where: str) -> Iterator[None]:
        """Raise ``AssertionError`` if the block touches the world outside or makes a task."""
        self.io.clear()
        tasks = len(self._tasks)
        yield
        if self.io:
            raise AssertionError(f"{what} {self.io[0]}; do that in {where}")
        if len(self._tasks) > tasks:
            raise AssertionError(f"{what} made a task; do that in {where}")

    async def wait_until_clean(self, limit: float) -> None:
        """Return when no task and no socket is left. Raises ``AssertionError``."""
        until = time.monotonic() + limit
        while left := self._left():
            if time.monotonic() > until:
                raise AssertionError(left)
            await asyncio.sleep(0.01)

    def _left(self) -> str:
        here = asyncio.current_task()
        for task in self._tasks:
            if not task.done() and task is not here:
                name = getattr(task.get_coro(), "__qualname__", repr(task))
                return (
                    f"the task {name} still runs after run() was stopped; make it in a "
                    "TaskGroup inside of run()"
                )
        for one in list(self._sockets):
            if one.fileno() != -1:
                return "a socket is still open after run() was stopped; close it in `finally`"
        return ""

    def _factory(self, former: Any) -> Callable[..., asyncio.Task[Any]]:
        def make(
            loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
        ) -> asyncio.Task[Any]:
            task: asyncio.Task[Any] = (
                former(loop, coroutine, **options)
                if former
                else asyncio.Task(coroutine, loop=loop, **options)
            )
            if _WATCH.get() is self:
                self._tasks.append(task)
            return task

        return make

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of what the interpreter says that is being done."""
        if event == "socket.__new__":
            self._sockets.add(arguments[0])
        elif event in _IO and not (event == "open" and _is_import()):
            # A socket stands before its address.
            about = arguments[1] if event in {"socket.connect", "socket.bind"} else arguments[0]
            self.io.append(f"{_IO[event]} {about!r}")

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        main = threading.main_thread().ident
        while not self._over and not self.blocked:
            self._beat.clear()
            try:
                loop.call_soon_threadsafe(self._beat.set)
            except RuntimeError:
                return  # The loop is closed.
            found: list[str] = []
            if not self._beat.wait(BLOCKED_SECONDS):
                while len(found) < _SAMPLES and not self._beat.wait(_LOOK_SECONDS):
                    place = self._place(sys._current_frames().get(main or 0))
                    if place is None:
                        break
                    found.append(place)
            if len(found) == _SAMPLES:
                self.blocked = found[-1]
            self._pause.wait(_LOOK_SECONDS)

    def _place(self, frame: Any) -> str | None:
        """The innermost line of the module on the stack."""
        while frame is not None:
            if frame.f_code.co_filename in self._files:
                file = frame.f_code.co_filename.rpartition("/")[2]
                return f"{file}, line {frame.f_lineno}, in {frame.f_code.co_name}"
            frame = frame.f_back
        return None


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _IO or event == "socket.__new__":
        watch = _WATCH.get()
        if watch is not None:
            watch.note(event, arguments)


def _is_import() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
