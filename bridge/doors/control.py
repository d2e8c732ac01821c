"""The command line's end of the door into the running program: a socket in the state directory.

JSON over HTTP. Anyone who may open the directory may use it; nothing else is asked.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bridge.doors.place import socket_of
from bridge.jsontext import decode
from bridge.matrix.client import reason_of
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError

STILL = "What was asked for may still be done, so look before you ask again"
"""What is so where the answer to a change is not waited for."""


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
        why = reason_of(error, None)
        raise TemporaryFailure(f"the running Trestle stopped answering: {why}") from error


async def ask(state_dir: Path, method: str, path: str, *, limit: float = 30) -> Any:
    """Ask the running program; it has ``limit`` seconds. None if none runs.

    Raises ``ConfigError`` if it finds the settings wrong, ``TrestleError`` with another refusal.
    """
    raw = await fetch(state_dir, method, path, limit=limit)
    return None if raw is None else decode(raw)


async def fetch(state_dir: Path, method: str, path: str, *, limit: float) -> bytes | None:
    """The same for an answer that is not JSON: its bytes."""
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
                return raw
            raise _refusal(response.status, raw)
    except aiohttp.ClientConnectorError:
        return None  # What a killed process left behind.
    except (aiohttp.ClientError, TimeoutError) as error:
        why = reason_of(error, None)
        # Cut off halfway there it would be worse: so nobody there looks whether we still listen.
        still = "" if method == "GET" else f". {STILL}"
        raise TemporaryFailure(
            f"the running Trestle does not answer: {why}{still}; its log, and `trestle status`, "
            "may say what it waits for"
        ) from error


def _refusal(status: int, raw: bytes) -> TrestleError:
    try:
        answer = orjson.loads(raw)
        said = str(answer["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return TrestleError(f"the running Trestle answers {status}; its log says why")
    if status == 422:
        return ConfigError(said, path=str(answer.get("path", "")))
    return TemporaryFailure(said) if status == 503 else TrestleError(said)
