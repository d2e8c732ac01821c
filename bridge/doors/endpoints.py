"""Which of our own doors' places are answered, and by whom."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from bridge.matrix.answer import Answer, answer_error
from bridge.matrix.listener import Request

Endpoint = Callable[[Request, str], Awaitable[Answer]]
"""Answers at one place; it is given the part of the path that varies there, empty if none does."""

_ANY = "*"


class Endpoints:
    """A table of places; :meth:`serve` is the handler of a listener."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, ...], dict[str, Endpoint]] = {}

    def add(self, method: str, place: str, endpoint: Endpoint) -> None:
        """Have it answered there; ``*`` is the part that varies, where there is one."""
        self._places.setdefault(_parts(place), {})[method] = endpoint

    async def serve(self, request: Request) -> Answer:
        """Answer a request. The raw path is cut, so that an encoded slash stays inside."""
        parts = _parts(request.target.partition("?")[0])
        for place, methods in self._places.items():
            if len(place) != len(parts):
                continue
            if any(one not in {_ANY, part} for one, part in zip(place, parts, strict=True)):
                continue
            method = "GET" if request.method == "HEAD" else request.method
            if method not in methods:
                known = {**methods, "HEAD": None} if "GET" in methods else methods
                return _refuse(
                    request, 405, f"Only {' and '.join(methods)} is understood here.",
                    {"Allow": ", ".join(known)},
                )  # fmt: skip
            varies = [part for one, part in zip(place, parts, strict=True) if one == _ANY]
            return await methods[method](request, unquote(varies[0]) if varies else "")
        return _refuse(request, 404, "There is nothing here.")


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[1:])


def _refuse(
    request: Request, status: int, reason: str, headers: Mapping[str, str] | None = None
) -> Answer:
    # What was not read is not waited for.
    return answer_error(
        status, "M_UNRECOGNIZED", reason, closes=not request.is_whole, headers=headers or {}
    )
