"""The state directory: there, ours, with room on its disk; and how old the last backup is."""

import os
import shlex
import stat
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from bridge.doctor.surroundings import Surroundings
from bridge.sdk.errors import ConfigError
from bridge.sdk.examination import Remark, bad, note, well

_MEBIBYTE = 1024 * 1024
_TOO_LITTLE = 100 * _MEBIBYTE
_LITTLE = 1024 * _MEBIBYTE
_OLD_BACKUP = timedelta(days=7)


def existing_part(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def examine_state(state_dir: Path, surroundings: Surroundings) -> Sequence[Remark]:
    """Look at the folder and its disk. Raises ``ConfigError`` if it cannot be used."""
    there = existing_part(state_dir)
    if not there.is_dir():
        raise _unusable(state_dir, f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unusable(state_dir, f"this user may not write to {there}")
    found = [
        *judge_mode(there, there.stat().st_mode if there == state_dir else 0),
        *judge_space("state_dir", there, surroundings.free_bytes(there)),
    ]
    return found or [well(_in_words(state_dir, there, surroundings.free_bytes(there)))]


def judge_mode(folder: Path, mode: int) -> Sequence[Remark]:
    """Nobody else may put files there."""
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        return [bad(f"others may write to {folder}; run `chmod go-w {shlex.quote(str(folder))}`")]
    return []


def judge_space(what: str, folder: Path, free: int) -> Sequence[Remark]:
    """Say so if the disk is full, or nearly."""
    size = in_megabytes(free)
    if free < _TOO_LITTLE:
        return [
            bad(
                f"the disk of {what} ({folder}) has {size} left: events cannot be stored. Make "
                "room, or move it to another disk"
            )
        ]
    if free < _LITTLE:
        return [note(f"the disk of {what} ({folder}) has only {size} left; make room soon")]
    return []


def in_megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / _MEBIBYTE / 1024:.1f} GB" if size >= _LITTLE else f"{size // _MEBIBYTE} MB"


def judge_backup(made: datetime | None, now: datetime) -> Remark:
    """Say how old the last backup is."""
    if made is None:
        return note(
            "no backup was made with `trestle backup FILE`; if you make backups in another way, "
            "keep the database and state_dir together"
        )
    age = now - made
    days = f"{age.days} days" if age.days != 1 else "one day"
    if age > _OLD_BACKUP:
        return note(f"the last backup is {days} old; `trestle backup FILE` makes one")
    return well(f"the last backup is {days} old" if age.days else "the last backup is from today")


def _in_words(state_dir: Path, there: Path, free: int) -> str:
    made = "" if there == state_dir else " will be made; it"
    return f"{state_dir}{made} has {in_megabytes(free)} left on its disk"


def _unusable(state_dir: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{state_dir} cannot be used: {reason}; it must be a folder that this user may write to",
        path="state_dir",
    )
