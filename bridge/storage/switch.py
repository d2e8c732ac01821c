"""Exchanging what is in the state directory for what was made beside it, as a whole.

The new is made in ``incoming/``. Then ``incoming.ready`` is written, and with it the thing is
decided: what is killed before leaves the old, what is killed after is finished by whoever opens
the state directory next, before anything is read there. The old goes into a folder of its own.

With a database by URL the decision is its commit. The rows committed say so themselves, by the
word that ``incoming.ready`` has too.
"""

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bridge.sdk.errors import ConfigError, TrestleError
from bridge.storage.files import write_private
from bridge.storage.schema import Connection
from bridge.wholefile import sync_folder

_LEFTOVER_LIMIT = 30.0
_WRITER_LIMIT = 5.0
"""Seconds: a server that was killed while it was made may write a last file."""
_LITTLE_ROOM = 32 << 20
"""Bytes: a server writes its log ahead in files of 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What is to be exchanged for what."""

    names: tuple[str, ...]
    """What is taken from ``incoming/``."""
    drop: tuple[str, ...] = ()
    """What goes without anything in its place."""
    aside: str
    """The folder that keeps the old, in the state directory."""
    word: str = ""
    """What the committed rows say, if they are elsewhere."""


def incoming(state_dir: Path) -> Path:
    """Where the new is made."""
    return state_dir / "incoming"


def aside_name(state_dir: Path, why: str, now: datetime) -> str:
    """A free name for the folder that keeps the old."""
    name = f"before-{why}-{now:%Y%m%d-%H%M%S}"
    return name if not (state_dir / name).exists() else f"{name}-{secrets.token_hex(2)}"


def new_word() -> str:
    """A word by which committed rows are known."""
    return f"restored {secrets.token_hex(16)}"


async def make_incoming(state_dir: Path) -> Path:
    """Have an empty folder for the new. A server that was killed in it may need a moment."""
    folder = incoming(state_dir)
    try:
        async with asyncio.timeout(_LEFTOVER_LIMIT):
            while folder.exists():
                await asyncio.to_thread(_remove_incoming, state_dir)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise ConfigError(f"{folder} cannot be emptied; remove it", path="state_dir") from error
    folder.mkdir()
    folder.chmod(0o711)  # The embedded database may be another user, and passes through.
    return folder


@contextmanager
def undone_unless_decided(state_dir: Path) -> Iterator[None]:
    """Clear the new away if it does not come to be; say so if that is for want of room."""
    try:
        yield
    except BaseException as error:
        if pending(state_dir) is not None:
            raise
        room = shutil.disk_usage(state_dir).free
        undo(state_dir)
        if isinstance(error, Exception) and room < _LITTLE_ROOM:
            raise TrestleError(
                f"the disk of {state_dir} is full. Everything is as it was; make room, then try "
                "again"
            ) from error
        raise


def decide(state_dir: Path, switch: Switch) -> None:
    """From now on it is the new that counts (or the rows decide, if the switch has a word)."""
    write_private(_ready(state_dir), json.dumps(asdict(switch)).encode())


def settle(state_dir: Path) -> None:
    """Finish what was decided, clear away what was not. Call before anything is read there."""
    switch = pending(state_dir)
    if switch is None:
        _ready(state_dir).with_suffix(".ready.new").unlink(missing_ok=True)
        _remove_incoming(state_dir)
    elif not switch.word:
        complete(state_dir, switch)


async def settle_by_rows(state_dir: Path, owner: Connection) -> None:
    """Finish or undo what the rows of a database by URL decide."""
    switch = pending(state_dir)
    if switch is None:
        return
    committed = await owner.fetchval("SELECT to_regclass('lease') IS NOT NULL") and (
        await owner.fetchval("SELECT EXISTS (SELECT FROM lease WHERE owner = $1)", switch.word)
    )
    if committed:
        await asyncio.to_thread(complete, state_dir, switch)
    else:
        await asyncio.to_thread(undo, state_dir)


def refuse_undecided(state_dir: Path) -> None:
    """Raise ``ConfigError`` if only the rows of a database by URL can decide."""
    if pending(state_dir) is not None:
        raise ConfigError(
            "a restore into a database by URL was interrupted; start Trestle once with that URL, "
            "and it is finished or undone",
            path="database.url",
        )


def pending(state_dir: Path) -> Switch | None:
    """What was about to be exchanged when the program was killed."""
    try:
        told = json.loads(_ready(state_dir).read_bytes())
    except FileNotFoundError:
        return None
    return Switch(**{**told, "names": tuple(told["names"]), "drop": tuple(told["drop"])})


def complete(state_dir: Path, switch: Switch) -> None:
    """Exchange. Runs again from wherever it was cut."""
    aside, new = state_dir / switch.aside, incoming(state_dir)
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in switch.names:
        if (new / name).exists():  # Else it is in its place already.
            _put_aside(state_dir / name, aside / name)
            (new / name).rename(state_dir / name)
    for name in switch.drop:
        _put_aside(state_dir / name, aside / name)
    for folder in (new, aside, state_dir):
        if folder.exists():
            sync_folder(folder)
    if not any(aside.iterdir()):
        aside.rmdir()
    undo(state_dir)


def undo(state_dir: Path) -> None:
    """Leave the old, and clear away the new."""
    _ready(state_dir).unlink(missing_ok=True)
    sync_folder(state_dir)
    _remove_incoming(state_dir)


def copy_missing(old: Path, new: Path, *, but: Sequence[str] = ()) -> None:
    """Copy files of a folder that the new one lacks, folders in it too."""
    if not old.is_dir():
        return
    for path in sorted(old.rglob("*")):
        place = new / path.relative_to(old)
        if path.is_file() and not place.exists() and place.name not in but:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(place, path.read_bytes())


def _put_aside(path: Path, place: Path) -> None:
    if path.exists() and not place.exists():
        path.rename(place)


def _ready(state_dir: Path) -> Path:
    return state_dir / "incoming.ready"


def _remove_incoming(state_dir: Path) -> None:
    folder = incoming(state_dir)
    noted = folder / "postgres" / "run.elsewhere"  # See EmbeddedPostgres.
    if noted.exists():
        shutil.rmtree(noted.read_text(), ignore_errors=True)
    until = time.monotonic() + _WRITER_LIMIT
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > until:
            return  # Whoever makes the next asks again, and says so.
        time.sleep(0.02)
