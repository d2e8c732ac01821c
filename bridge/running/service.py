"""Telling the service manager how we are, as systemd's ``sd_notify`` does."""

import contextlib
import os
import socket


def tell(*states: str) -> None:
    """Say ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` and the like, if somebody wants to hear it.

    Never raises: a manager that does not listen is no reason to stop.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
    ):
        out.setblocking(False)
        # `@` stands for the zero byte with which an address without a file begins.
        place = f"\0{address[1:]}" if address.startswith("@") else address
        out.sendto("\n".join(states).encode(), place)
