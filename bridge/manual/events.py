"""``docs/reference/log-events.md``: every line that the program can log, by its stable name."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import bridge
from bridge.manual.words import table

_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}

_HEAD = """\
# Events in the log

Each line of the log carries a stable name, `event`: search and alert by it, not by the sentence.
A name is changed or removed only with a line in the changelog. `…` stands for what varies: an
instance, a number, the reason. No line holds what people write, tokens or the ids of people; a
Matrix id appears as `@` and a hash, which is the same for one run of the program.

With `logging: {format: json}` a line is an object:

| field | |
|---|---|
| `time` | UTC, with milliseconds |
| `level` | `debug`, `info`, `warning`, `error`, `critical` |
| `logger` | the part of the program; `bridge.module.<instance>` for a module |
| `event` | the stable name; `library` for a library's line, `module` if a module gave none |
| `message` | the sentence |
| `exception` | class and places of an exception, a list; its text only if it is one of ours |
| others | `instance` for a module's lines, and what the event brings |

"""


class LogLine(NamedTuple):
    """A place in the code that logs."""

    event: str
    level: str
    sentence: str


def log_lines() -> list[LogLine]:
    """Every place in the code that logs, sorted by event. Raises ``ValueError`` for one whose
    event is not written there as a constant."""
    folder = Path(bridge.__file__).parent
    found: list[LogLine] = []
    for file in sorted(folder.rglob("*.py")):
        found += lines_in(file.read_text("utf-8"), str(file.relative_to(folder.parent)))
    return sorted(found)


def lines_in(code: str, file: str) -> Iterator[LogLine]:
    """The places in one file that log. Raises ``ValueError``, see :func:`log_lines`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and _is_log_call(node.func):
            assert isinstance(node.func, ast.Attribute)  # noqa: S101 - for mypy
            event = _event_of(node)
            if event is None:
                raise ValueError(f'{file}:{node.lineno} logs without extra={{"event": "..."}}')
            level = {"exception": "error"}.get(node.func.attr, node.func.attr)
            yield LogLine(event, level, _sentence_of(node))


def log_events_page() -> str:
    """The text of the page."""
    lines = dict.fromkeys(log_lines())
    rows = [(f"`{one.event}`", one.level, one.sentence) for one in lines]
    return _HEAD + table(("event", "level", "sentence"), rows)


def _is_log_call(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute) or function.attr not in _LEVELS:
        return False
    owner = function.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return name in {"log", "_log", "logger", "logging"}


def _event_of(call: ast.Call) -> str | None:
    for keyword in call.keywords:
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                named = isinstance(key, ast.Constant) and key.value == "event"
                if named and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    return value.value
    return None


def _sentence_of(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return "…"
    text = first.value
    for mark in ("%.0f", "%04d", "%s", "%d", "%r"):
        text = text.replace(mark, "…")
    return text
