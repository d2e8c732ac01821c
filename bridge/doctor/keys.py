"""The files that hold secrets: there, whole, and readable by nobody but their owner."""

import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from bridge.model import Clock
from bridge.sdk.examination import Remark, bad, note, well

_KEY_BYTES = 32
_KEYS_OF_32_BYTES = ("event-ids", "audit")
_MASTER_KEY = "TRESTLE_MASTER_KEY"


def examine_keys(state_dir: Path, clock: Clock, *, is_running: bool) -> Sequence[Remark]:
    """Look at ``<state_dir>/keys``."""
    folder = state_dir / "keys"
    if not folder.exists():
        if is_running:
            return [bad(f"{folder} is gone while Trestle runs; put it back from a backup")]
        return [well("will be made at the first start")]
    if not os.access(folder, os.R_OK | os.X_OK):
        return [bad(f"this user may not read {folder}; run Trestle as its owner, "
                    f"{_owner(folder)}")]  # fmt: skip
    files = sorted(path for path in folder.rglob("*") if path.suffix != ".new")
    found = [remark for path in (folder, *files) for remark in _judge(path)]
    found += _judge_owners((folder, *files))
    found += judge_days(folder / "day", clock.today(), is_running=is_running)
    return found or [well("all there, and only their owner may read them")]


def judge_days(folder: Path, today: date, *, is_running: bool) -> Sequence[Remark]:
    """A running Trestle has the keys of today and tomorrow."""
    if not is_running:
        return []
    tomorrow = today + timedelta(days=1)
    missing = [day for day in (today, tomorrow) if not (folder / day.isoformat()).exists()]
    if not missing:
        return []
    return [
        bad(
            f"the key of {missing[0]} is missing in {folder}: what was stored that day could not "
            "be read after a restart. Put it back from a backup if there is one; Trestle makes "
            "missing keys every hour"
        )
    ]


def judge_master_key(
    state_dir: Path, environment: Mapping[str, str], *, has_secrets: bool
) -> Sequence[Remark]:
    """What lies in the vault opens with the master key only."""
    file = state_dir / "keys" / "master"
    if not has_secrets or file.exists() or _MASTER_KEY in environment:
        return []
    return [
        bad(
            f"the vault holds secrets, and there is neither {file} nor {_MASTER_KEY} in the "
            "environment to open them; put the key back from the copy that you keep elsewhere"
        )
    ]


def judge_registration_mode(file: Path) -> Sequence[Remark]:
    """The registration holds both tokens."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return []  # That it cannot be read is said where it is read.
    if not mode & stat.S_IROTH:
        return []
    return [
        bad(
            f"everybody on this machine can read {file}, and it holds tokens; run "
            f"`chmod 640 {shlex.quote(str(file))}` and give it the homeserver's group"
        )
    ]


def _judge(path: Path) -> Iterator[Remark]:
    status = path.lstat()
    mode, is_folder = stat.S_IMODE(status.st_mode), stat.S_ISDIR(status.st_mode)
    mend = f"chmod {'700' if is_folder else '600'} {shlex.quote(str(path))}"
    if mode & 0o077:
        yield bad(f"users other than its owner can reach {path}; run `{mend}`")
    if not mode & stat.S_IRUSR:
        yield bad(f"{path} cannot be read by its owner; run `{mend}`")
        return
    if not is_folder:
        yield from _judge_size(path, status.st_size)


def _judge_owners(paths: Iterable[Path]) -> Iterator[Remark]:
    """Name, for each other user, one file that is theirs."""
    user = os.geteuid()
    others = {status.st_uid: path for path in paths if (status := path.lstat()).st_uid != user}
    for path in others.values():
        name, us = _owner(path), "root" if user == 0 else "another user"
        said = note if user == 0 else bad
        yield said(
            f"{path} belongs to {name}, but this runs as {us}; run Trestle, and this, as {name}"
        )


def _judge_size(path: Path, size: int) -> Iterator[Remark]:
    is_key = path.parent.name == "day" or path.name in _KEYS_OF_32_BYTES
    if is_key and size != _KEY_BYTES:
        yield bad(
            f"{path} is damaged: it should hold {_KEY_BYTES} bytes and has {size}; put it back "
            "from a backup"
        )


def _owner(path: Path) -> str:
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
