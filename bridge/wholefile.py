"""Writes a file whole or not at all: the one way to put new contents in the place of old ones."""

import contextlib
import errno
import os
import stat
from pathlib import Path

_NO_SYNC = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP}
"""Where a folder may not be read, or its disk syncs none, the file is there all the same."""


def write_whole(
    path: Path, data: bytes, *, mode: int = 0o600, owner: os.stat_result | None = None
) -> None:
    """Have the data in the file, on disk when it returns, however the machine ends meanwhile.

    Nobody but us reads it before it has its mode. ``owner`` is whose it is to be, where we may
    give it away; elsewhere its group, which is ours then, gets no more than all others. No link
    is followed: one at the path is replaced. Raises ``OSError``; then all is as it was, unless
    the disk itself fails over the folder.
    """
    _refuse_special(path)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None and not _given(descriptor, owner):
                mode &= 0o707 | (mode & 0o007) << 3
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    try:
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_special(path: Path) -> None:
    """Raise ``OSError`` for a device, a pipe or a folder: a file must not take its place."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, "it is there and no file", str(path))


def _given(descriptor: int, owner: os.stat_result) -> bool:
    """Give the file away; say whether we may."""
    try:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except PermissionError:  # Only root may, and not on every disk.
        return False
    return True
