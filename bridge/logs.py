"""The log: its format, its levels, its files; what no line ever carries."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TextIO

from bridge.sdk.errors import TrestleError
from bridge.sdk.secret import Secret

_HIDDEN = "[hidden]"
_TOKEN = re.compile(
    r"(?i)((?:access_token|scalar_token|as_token|hs_token|password)[\"']?\s*[=:]\s*[\"']?"
    r"|\bbearer\s+|://[^/\s:@]*:(?=[^/\s@]+@))"
    r"([^\s&\"',;@]+)"
)
_NEVER = frozenset(
    {"body", "formatted_body", "content", "text", "token", "password", "secret", "topic"}
)
"""Fields that no log line carries, whoever sets them."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LIBRARIES = ("aiohttp", "asyncio", "asyncpg", "mau", "slixmpp", "urllib3")

_secrets: set[str] = set()


def hide(*secrets: Secret) -> None:
    """Mask these in every log line from now on."""
    # A short word would be masked inside other words and tell by that what it is.
    _secrets.update(value for secret in secrets if len(value := secret.reveal()) >= 6)


def redact(text: str) -> str:
    """Give the text without tokens: those given to :func:`hide`, and what looks like one."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    return _TOKEN.sub(rf"\1{_HIDDEN}", text)


def configure_logging(
    format: Literal["console", "json"] = "console",
    level: str = "info",
    *,
    stream: TextIO | None = None,
) -> None:
    """Write log lines to standard error (or ``stream``), as text or a JSON object a line.

    A line carries its time, level, logger, sentence, a stable ``event`` name and the fields given
    as ``extra``. Tokens are masked. Of an exception that is not ours only the class and the
    places are written, since its text may quote a message.
    """
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if format == "json" else _ConsoleLines())
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number)
    for name in _LIBRARIES:  # At lower levels they write out requests with their content.
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Name the place only: the default writes out the arguments."""
        sys.stderr.write(f"a log line cannot be written: {record.pathname}:{record.lineno}\n")


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
        # A line break inside a sentence could pass for a line of its own.
        sentence = redact(record.getMessage()).replace("\r", "\\r").replace("\n", "\\n")
        rest = "".join(f" {name}={value!r}" for name, value in self.fields(record))
        text = (
            f"{self.moment(record)} {record.levelname:<7} {sentence}  [{self.event(record)}{rest}]"
        )
        if record.exc_info and record.exc_info[1] is not None:
            text += "".join(f"\n    {line}" for line in _describe(record.exc_info[1]))
        return text


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
