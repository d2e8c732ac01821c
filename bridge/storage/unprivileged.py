"""Whom a server runs as when we are root, and how a child is tied to us."""

import contextlib
import ctypes
import os
import pwd
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from bridge.sdk.errors import ConfigError

_PR_SET_PDEATHSIG = 1


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("trestle", "postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigError(
        "Postgres refuses to run as root, and there is no user trestle, postgres or nobody here; "
        "make one, or run Trestle as a user of its own"
    )


def allows(path: Path, user: pwd.struct_passwd, bits: int) -> bool:
    """Whether the file's mode lets the user do it; ``bits`` as for others: 4 read, 1 enter."""
    status = path.stat()
    if status.st_uid == user.pw_uid:
        return stat.S_IMODE(status.st_mode) >> 6 & bits == bits
    if status.st_gid == user.pw_gid:
        return stat.S_IMODE(status.st_mode) >> 3 & bits == bits
    return status.st_mode & bits == bits


def blocked_at(path: Path, user: pwd.struct_passwd) -> Path | None:
    """The first folder on the way to ``path`` that the user may not enter."""
    folders = reversed(path.resolve().parents)
    return next((folder for folder in folders if not allows(folder, user, 1)), None)


def prepare_child(
    death_signal: signal.Signals, user: pwd.struct_passwd | None
) -> Callable[[], None]:
    """What the child does between fork and exec: give up root, then tie itself to us.

    The kernel sends it ``death_signal`` when we end, however we end (Linux).
    """
    parent = os.getpid()
    set_option = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if user is not None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        if set_option is not None:
            # After the change of user, which clears it.
            set_option(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:
                os._exit(1)  # We died in between: nobody would tell the child.
        os.umask(0o077)

    return prepare
