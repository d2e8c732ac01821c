"""Spans of time as people write them."""

import re
from datetime import timedelta

_UNITS = {
    "w": ("week", timedelta(weeks=1)),
    "d": ("day", timedelta(days=1)),
    "h": ("hour", timedelta(hours=1)),
    "m": ("minute", timedelta(minutes=1)),
    "s": ("second", timedelta(seconds=1)),
}
_PART = r"([0-9]{1,6})([smhdw])"
_SPAN = re.compile(rf"(?:in\s+)?((?:{_PART}){{1,5}})(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)


def read_span(text: str) -> tuple[timedelta | None, str]:
    """Read ``1h30m tea`` as a span and the rest; (None, "") if it does not begin with a span."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        return None, ""
    parts = re.findall(_PART, match[1].casefold())
    span = sum((int(number) * _UNITS[unit][1] for number, unit in parts), timedelta())
    return span, (match[4] or "").strip()


def spell_span(span: timedelta) -> str:
    """Say it in words: ``1 hour 30 minutes``. Whole seconds, rounded up; at most two units."""
    left = timedelta(seconds=max(1, -(-span // timedelta(seconds=1))))
    words: list[str] = []
    for name, unit in _UNITS.values():
        number, left = divmod(left, unit)
        if number:
            words.append(f"{number} {name}{'s' if number > 1 else ''}")
        elif words:
            break
        if len(words) == 2:
            break
    return " ".join(words)
