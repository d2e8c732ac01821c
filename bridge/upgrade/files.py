"""Puts the new text in the place of the old: a copy first, then all at once."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.sdk.errors import ConfigError
from bridge.wholefile import write_whole


def replace_text(path: Path, data: bytes, *, why: str, private: bool = False) -> Path:
    """Have the data in the file, whole or not at all, and give the copy of what was there.

    The copy is called ``<name>.before-<why>``, and with a number where that is taken. Mode and
    owner stay; with ``private`` the rights of everybody else are taken away. A link stays one:
    what it leads to is replaced. Raises ``ConfigError`` when the folder refuses; then all is as
    it was.
    """
    path = path.resolve()
    copy = _free_name(path.with_name(f"{path.name}.before-{why}"))
    try:
        about = path.stat()
        mode = stat.S_IMODE(about.st_mode)
        write_whole(copy, path.read_bytes(), mode=mode, owner=about)
        write_whole(path, data, mode=mode & ~0o007 if private else mode, owner=about)
    except OSError as error:
        if path.exists():
            copy.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be replaced: {_reason(error)}") from error
    return copy


def put_text(path: Path, data: bytes, *, why: str) -> Path | None:
    """Have the data in a file that holds secrets, whether one is there or not.

    Gives the copy of what was there, None if nothing was. Raises ``ConfigError``.
    """
    if path.exists():
        return replace_text(path, data, why=why, private=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return None


def is_writable(path: Path) -> bool:
    """Whether we may put another file in the place of this one, or one where none is."""
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def replaced_outside(path: Path) -> Iterator[str]:
    """A sentence if what we see is not the file any more that lies at its place outside.

    That is so where a file alone is mounted, as into a container, and an editor outside has put
    a new one in its place: the mount keeps the old one, which has no name any more.
    """
    if path.stat().st_nlink == 0:
        yield (
            f"{path} alone is mounted here, and was replaced outside since: what is read here is "
            "the file of before. Mount its folder instead, and make the container anew"
        )


def _reason(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return (
            "the file alone is mounted here, as into a container; mount its folder instead, or "
            "change the file outside"
        )
    return str(error.strerror)


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
