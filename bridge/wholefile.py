"""Writes a file whole or not at all, new or in the place of an old one."""

import contextlib
import errno
import os
import re
import secrets
import select
import stat
from collections.abc import Iterator
from pathlib import Path

_NO_SYNC = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP}
"""Where a folder may not be read, or its disk syncs none, the file is there all the same."""


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
"""What disks say that know no second name for a file, as those of cameras and phones."""
_MARK_BYTES = 8
_PIPE_WAITS_SECONDS = 30
_PIPE_BYTES = 16 << 20


def write_whole(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    owner: os.stat_result | None = None,
    only_new: bool = False,
    own_folder: bool = False,
) -> None:
    """Have the data in the file, on disk when it returns, however the machine ends meanwhile.

    Nobody but us reads it before it has its mode. ``owner`` is whose it is to be, where we may
    give it away; elsewhere its group, which is ours then, gets no more than all others. No link
    is followed: one at the path is replaced. With ``only_new`` nothing is: ``FileExistsError``
    if anything is there by then. What an earlier try left beside it that was cut off goes; it
    is called ``<name>.new`` where the folder is ours alone (``own_folder``), and elsewhere
    ``<name>.<16 hexadecimal digits>.new``, as nothing of anybody else's is. Raises ``OSError``,
    which names the path; then all is as it was, unless the disk itself fails over the folder.
    """
    _refuse_special(path)
    if own_folder:
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
    else:
        _clear_away(path)
        new = path.with_name(f"{path.name}.{secrets.token_hex(_MARK_BYTES)}.new")
    with _told_of(path):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if owner is not None and not _given(descriptor, owner):
                    mode &= 0o707 | (mode & 0o007) << 3
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            if only_new:
                _put_where_nothing_is(new, path)
            else:
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


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Have an error name what is written: a full disk names nothing, others our own name of it."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        del error.filename2  # None would be told of, too.
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


def _clear_away(path: Path) -> None:
    """Remove what tries left that were cut off: it may hold what nobody else is to know."""
    ours = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{2 * _MARK_BYTES}}}\.new")
    with contextlib.suppress(OSError):  # A folder that may not be read can be written to.
        for one in list(path.parent.iterdir()):
            if ours.fullmatch(one.name):
                with contextlib.suppress(OSError):  # It is somebody else's, or gone by now.
                    one.unlink()


def _put_where_nothing_is(new: Path, path: Path) -> None:
    """Give the file its name, if nothing has it; ``FileExistsError`` else."""
    try:
        path.hardlink_to(new)  # A move would replace what came there meanwhile.
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        new.replace(path)
    else:
        new.unlink()


def _given(descriptor: int, owner: os.stat_result) -> bool:
    """Give the file away; say whether we may."""
    try:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except PermissionError:  # Only root may, and not on every disk.
        return False
    return True


def read_whole(path: Path) -> tuple[bytes, int]:
    """Give what is in a file, and its mode.

    A pipe is one, too, while somebody writes into it, as ``<(a command)`` does. Raises
    ``OSError``, also for what is no file: an idle pipe keeps its reader waiting, and a device may
    never end.
    """
    # Of a pipe even the opening waits, until somebody writes.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISFIFO(mode):
            return _read_pipe(descriptor, path), mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device; give a file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(), mode
    finally:
        os.close(descriptor)


def _read_pipe(pipe: int, path: Path) -> bytes:
    """Give all that comes out of a pipe, which is not blocking."""
    read = b""
    while len(read) <= _PIPE_BYTES:
        try:
            more = os.read(pipe, 65536)
        except BlockingIOError:
            if not select.select([pipe], [], [], _PIPE_WAITS_SECONDS)[0]:
                break
            continue
        if not more and not read:
            break
        if not more:
            return read
        read += more
    raise OSError(
        errno.EINVAL, "it is a pipe that gives nothing, or no end; give a file", str(path)
    )
