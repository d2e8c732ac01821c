"""Where the tests write: memory, where there is plenty, for no disk keeps up with them.

Hundreds of databases and homeservers are made, written to and thrown away again, and each of
their commits would wait for the disk. What a kill leaves is the same in memory. Who sets
``TMPDIR`` says where instead.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_PLENTY = 6 << 30
"""Bytes. Two workers hold a third of that at most."""


@contextmanager
def scratch() -> Iterator[None]:
    """Have temporary files of ours, and of what we start, in memory until the block ends."""
    if "TMPDIR" in os.environ or not _is_plenty():
        yield
        return
    # The names of sockets in it are to be short.
    folder = Path(tempfile.mkdtemp(prefix="t-", dir=_MEMORY))
    folder.chmod(0o1777)  # As /tmp is.
    before, tempfile.tempdir = tempfile.tempdir, None
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _is_plenty() -> bool:
    """Whether as much is free, and programs may be run from there."""
    try:
        place = os.statvfs(_MEMORY)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    free = min(place.f_bavail * place.f_frsize, kilobytes << 10)
    return free >= _PLENTY and not place.f_flag & os.ST_NOEXEC
