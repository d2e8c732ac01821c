"""Where the tests write: in memory where there is plenty, for no disk keeps up with them.

Hundreds of databases and homeservers are made, written to and thrown away again, and each of
their commits would wait for the disk. A kill leaves the same behind in memory. ``TMPDIR``, if it
is set, says where instead.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_NAME = "t-"
"""How folders of ours begin. The names of sockets in them are to be short."""
_PLENTY = 6 << 30
"""Bytes. Four workers hold two thirds of that at most."""


@contextmanager
def scratch() -> Iterator[None]:
    """Have temporary files of ours, and of what we start, in memory until the block ends."""
    if "TMPDIR" in os.environ or not _is_plenty():
        yield
        return
    for old in _MEMORY.glob(f"{_NAME}*/lock"):
        with _holding(old) as is_ours:  # Memory that a killed run has left is given back.
            if is_ours:
                shutil.rmtree(old.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_NAME, dir=_MEMORY))
    with _holding(folder / "lock"):
        folder.chmod(0o1777)  # As /tmp is.
        before, tempfile.tempdir = tempfile.tempdir, None
        os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            del os.environ["TMPDIR"]
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _holding(lock: Path) -> Iterator[bool]:
    """Say whether nobody held the lock; then it is ours until the block or our process ends."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(lock.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _is_plenty() -> bool:
    """Whether enough is free there, and programs may be run from it."""
    try:
        place = os.statvfs(_MEMORY)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    free = min(place.f_bavail * place.f_frsize, kilobytes << 10)
    return free >= _PLENTY and not place.f_flag & os.ST_NOEXEC
