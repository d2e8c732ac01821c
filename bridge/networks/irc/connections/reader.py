"""Reading from a server to its last byte, also when the connection breaks."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

REST_BYTES = 64 * 1024


class Reader(asyncio.StreamReader):
    """Gives all that came before the connection broke, and only then says that it did.

    asyncio throws away what is unread then: a server's last words, which say why it closed.
    """

    def __init__(self, plug: socket.socket | None) -> None:
        """``plug``: the socket, if what comes out of it is what is read (not with TLS)."""
        super().__init__()
        self._plug = plug
        self._failure: Exception | None = None
        self._is_empty = True
        self._was_full = False
        """There was more than what was read last."""
        self.at_once: Callable[[bytes], bool] | None = None
        """Does what can be done about what arrives without waking anybody; gives whether that is
        all. Asked only of what nothing unread stands before."""

    def feed_data(self, data: Any) -> None:  # Bytes: asyncio says less of it.
        """Take note of the bytes that arrived."""
        if self._is_empty and self.at_once is not None and self.at_once(data):
            return
        self._is_empty = False
        super().feed_data(data)

    def set_exception(self, exc: Exception) -> None:
        """Take note that the connection broke."""
        self._failure = exc
        rest = b""
        if self._plug is not None:
            with contextlib.suppress(OSError):
                # After a write that failed nobody has looked whether there is something.
                rest = self._plug.recv(REST_BYTES)
        if rest:
            with contextlib.suppress(RuntimeError):  # There is nothing left to pause.
                self.feed_data(rest)
        self.feed_eof()

    async def read(self, n: int = -1) -> bytes:
        """Return what is there, as soon as anything is. Raises ``OSError`` when it is broken.

        Others have their turn before each ``n`` bytes, however much there is."""
        if self._was_full:
            await asyncio.sleep(0)  # What is there already would be waited for by nothing.
        data = await super().read(n)
        self._was_full = len(data) == n
        self._is_empty = not self._was_full
        if not data and self._failure is not None:
            raise self._failure
        return data


def reason_of(error: Exception) -> str:
    """Say what an error of the network is, in words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        # Of a refused connection asyncio says "Connect call failed", with a tuple behind it.
        number = error.errno or 0
        return os.strerror(number) if number > 0 else error.strerror
    return str(error) or type(error).__name__
