"""The log: its format, its levels, its files; what no line ever carries."""

import contextlib
import glob
import hashlib
import json
import logging
import os
import pkgutil
import re
import secrets
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal, TextIO

import bridge
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret

_HIDDEN = "[hidden]"
_TOKEN = re.compile(
    r"(?i)((?:access_token|scalar_token|as_token|hs_token(?:_old)?|password)[\"']?\s*[=:]\s*[\"']?"
    r"|\bbearer\s+)"
    r"([^\s&\"',;@]+)"
)
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^/\s]+(?=@)")
"""A password in an URL: up to the last ``@``, as one may stand in it unencoded."""
_NEVER = frozenset(
    {"body", "formatted_body", "content", "text", "token", "password", "secret", "topic"}
)
"""Fields that no log line carries, whoever sets them."""

_PERSON = re.compile(
    r"(?<![\w.\])])(?:@|%40)(?:[^\s:@%\"'<>]|%(?!3A))+(?::|%3A)"
    r"(?:[\w-]+(?:\.[\w-]+)*|\[[0-9A-Fa-f:.]+\])(?::\d{1,5}(?!\d))?",
    re.IGNORECASE,
)
"""A Matrix user id, also as a URL spells it."""

_KEEP_DAYS = 13
"""Days beside today that a log file is kept, as long as what people say is."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LIBRARIES = ("aiohttp", "asyncio", "asyncpg", "mau", "slixmpp", "urllib3")

_secrets: set[str] = set()

_KEY = secrets.token_bytes(16)
"""Of this run only: what it hashed cannot be tested against a guess once it has ended."""


def hide(*secrets: Secret) -> None:
    """Mask these in every log line from now on."""
    # A short word would be masked inside other words and tell by that what it is.
    _secrets.update(value for secret in secrets if len(value := secret.reveal()) >= 6)


def redact(text: str) -> str:
    """Give the text without tokens: those given to :func:`hide`, and what looks like one."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    text = _USERINFO.sub(rf"\1{_HIDDEN}", _TOKEN.sub(rf"\1{_HIDDEN}", text))
    return _PERSON.sub(_hash_person, text)


def _hash_person(found: "re.Match[str]") -> str:
    # The same person in every line of a run, whichever way the id is spelled there.
    name = found[0].replace("%40", "@").replace("%3A", ":").replace("%3a", ":").rstrip(".")
    return f"@{hashlib.blake2b(name.encode(), key=_KEY, digest_size=6).hexdigest()}"


class Log:
    """How the log is to be written: its file is open, and nothing is written there yet.

    A line carries its time, level, logger, sentence, a stable ``event`` name and the fields given
    as ``extra``. Tokens are masked, and the ids of people are hashed with a key of this run. Of
    an exception that is not ours only the class and the places are written, since its text may
    quote a message.
    """

    def __init__(
        self,
        format: Literal["console", "json"] = "console",
        level: str = "info",
        *,
        levels: Mapping[str, str] | None = None,
        file: Path | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """To standard error (or ``stream``, or a ``file``), as text or JSON.

        ``levels`` are those of single loggers, as :func:`levels_by_logger` gives them. A file is
        rotated at midnight UTC: ``trestle.log`` becomes ``trestle.log.2026-01-31``, and what is
        older than today and 13 days is deleted. Raises ``ConfigError`` when it cannot be written.
        """
        self._handler = _Handler(stream or sys.stderr) if file is None else _DailyFile(file)
        self._handler.setFormatter(_JsonLines() if format == "json" else _ConsoleLines())
        self._level = level
        self._levels = levels or {}

    def use(self) -> None:
        """Write it like that from now on."""
        root = logging.getLogger()
        for old in [one for one in root.handlers if isinstance(one, _Handler)]:
            root.removeHandler(old)
            old.close()
        root.addHandler(self._handler)
        number = logging.getLevelNamesMapping()[self._level.upper()]
        root.setLevel(number)
        for name in _own_levels:
            logging.getLogger(name).setLevel(logging.NOTSET)
        _own_levels.clear()
        for name, own in self._levels.items():
            logging.getLogger(name).setLevel(own.upper())
            _own_levels.add(name)
        for name in _LIBRARIES:  # At lower levels they write out requests with their content.
            logging.getLogger(name).setLevel(max(number, logging.WARNING))
        logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
        logging.captureWarnings(True)

    def let_go(self) -> None:
        """Close its file, unless it is used."""
        if self._handler not in logging.getLogger().handlers:
            self._handler.close()


def is_on_screen() -> bool:
    """Whether the log is written to standard error (or another stream), and not to a file."""
    return not any(isinstance(one, _DailyFile) for one in logging.getLogger().handlers)


_own_levels: set[str] = set()
"""The loggers whose level we have set, to be taken back with the next settings."""


def levels_by_logger(
    levels: Mapping[str, str], modules: Mapping[InstanceId, str]
) -> dict[str, str]:
    """Turn the levels of parts into those of loggers, as :class:`Log` takes them.

    A part is an instance, a module with all its instances, or a part of the program like
    ``core``. ``modules`` maps each instance to its module. Raises ``ConfigError`` for what is
    none of these.
    """
    return {name: level for part, level in levels.items() for name in _loggers_of(part, modules)}


def _loggers_of(part: str, modules: Mapping[InstanceId, str]) -> list[str]:
    found = [f"bridge.module.{name}" for name, kind in modules.items() if part in (name, kind)]
    if part in modules.values():
        found += [f"bridge.networks.{part}", f"bridge.bots.{part}"]
    if part in _house():
        found.append(f"bridge.{part}")
    if not found:
        there = ", ".join([*sorted(_house()), *sorted({*modules, *modules.values()})])
        raise ConfigError(
            f"there is no such part; there are {there}", path=f"logging.levels.{part}"
        )
    return found


def _house() -> set[str]:
    parts = {one.name for one in pkgutil.iter_modules(bridge.__path__)}
    return parts - {"__main__", "networks", "bots", "sdk"}


def tidy_log_files(today: date) -> None:
    """Rotate the log file if the day is over, and delete what is too old. Call it every hour.

    Lines do the same, but in a quiet night there may be none.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _DailyFile):
            handler.tidy(today)


def _complain(text: str) -> None:
    """Say it on standard error, if that can be written: whoever logs must go on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")


def _close(stream: TextIO) -> None:
    """Close a file; on a full disk what is left for it cannot be written."""
    with contextlib.suppress(OSError):
        stream.close()


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Name the place only: the default writes out the arguments."""
        _complain(f"a log line cannot be written: {record.pathname}:{record.lineno}")


class _DailyFile(_Handler):
    """A file that is rotated with the first line of a UTC day."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Without lines since then, it is of the day of its last one.
            last = path.stat().st_mtime if path.exists() and path.stat().st_size else None
            super().__init__(self._open())
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}; give the user that Trestle runs as "
                "a folder of its own for it",
                path="logging.file",
            ) from error
        self._day = date.min if last is None else datetime.fromtimestamp(last, UTC).date()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line into the file of its day."""
        self.tidy(datetime.fromtimestamp(record.created, UTC).date())
        super().emit(record)

    def tidy(self, today: date) -> None:
        """Rotate the file if it is of an earlier day; delete what is too old."""
        self.acquire()
        try:
            if today > self._day:
                before, self._day = self._day, today
                if before != date.min:
                    self._put_aside(before)
                self._forget(today)
        except OSError as error:
            _complain(f"{self._path} cannot be rotated: {error.strerror}")
        finally:
            self.release()

    def close(self) -> None:
        """Let go of the file, whatever could not be written there."""
        super().close()
        _close(self.stream)

    def _open(self) -> TextIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def _put_aside(self, day: date) -> None:
        aside = self._path.with_name(f"{self._path.name}.{day}")
        if aside.exists():  # The clock was set back: the day goes on in the file that is there.
            with aside.open("ab") as file:
                file.write(self._path.read_bytes())
            self._path.unlink()
        else:
            self._path.rename(aside)
        # Not by setStream: what cannot be written into the old file would keep us there.
        old, self.stream = self.stream, self._open()
        _close(old)

    def _forget(self, today: date) -> None:
        oldest = today - timedelta(days=_KEEP_DAYS)
        for file in self._path.parent.glob(f"{glob.escape(self._path.name)}.????-??-??"):
            day = _day_of(file.suffix[1:])
            if day is not None and day < oldest:
                file.unlink()


def _day_of(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


class _Lines(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        """Give what was put beside the sentence, masked."""
        for name, value in record.__dict__.items():
            if name in _STANDARD or name in _NEVER or name == "event":
                continue
            yield name, value if isinstance(value, int | float | None) else redact(str(value))

    def event(self, record: logging.LogRecord) -> str:
        """Give the stable name of what happened."""
        return str(getattr(record, "event", "library"))

    def moment(self, record: logging.LogRecord) -> str:
        """Give the time in UTC, with milliseconds."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _JsonLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self.event(record),
            "message": redact(record.getMessage()),
        }
        line.update((name, value) for name, value in self.fields(record) if name not in line)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = list(_describe(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False)


class _ConsoleLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        sentence = _in_one_line(redact(record.getMessage()))
        rest = "".join(f" {name}={value!r}" for name, value in self.fields(record))
        text = (
            f"{self.moment(record)} {record.levelname:<7} {sentence}  [{self.event(record)}{rest}]"
        )
        if record.exc_info and record.exc_info[1] is not None:
            described = map(_in_one_line, _describe(record.exc_info[1]))
            text += "".join(f"\n    {line}" for line in described)
        return text


def _in_one_line(text: str) -> str:
    """A line break inside a sentence could pass for a line of its own."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _describe(error: BaseException) -> Iterator[str]:
    """Give the class and the places of an exception; its text only if it is ours."""
    for cause in _chain(error):
        name = type(cause).__qualname__
        yield f"{name}: {redact(str(cause))}" if isinstance(cause, TrestleError) else name
        for frame in traceback.extract_tb(cause.__traceback__):
            yield f"  {frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(reversed(one.exceptions))
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(one.__context__)
