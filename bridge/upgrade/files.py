"""Puts the new text in the place of the old: a copy first, then all at once."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

from bridge.sdk.errors import ConfigError


def replace_text(path: Path, data: bytes, *, version: str) -> Path:
    """Have the data in the file, whole or not at all, and give the copy of what was there.

    Mode and owner stay. A link stays one: what it leads to is replaced. Raises ``ConfigError``
    when the folder refuses.
    """
    path = path.resolve()
    copy = _free_name(path.with_name(f"{path.name}.before-{version}"))
    new = path.with_name(f"{path.name}.new")
    try:
        about = path.stat()
        _write(copy, path.read_bytes(), about)
        _write(new, data, about)
        new.replace(path)
        _sync(path.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be replaced: {error.strerror}") from error
    return copy


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def _write(path: Path, data: bytes, about: os.stat_result) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with contextlib.suppress(PermissionError):  # Only root may give files away.
            shutil.chown(path, about.st_uid, about.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(about.st_mode))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
