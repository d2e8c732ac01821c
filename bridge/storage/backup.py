"""Taking a backup: one file with all rows and keys, while Trestle runs or not."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg

from bridge import __version__
from bridge.model import Clock
from bridge.sdk.errors import NotNow, TemporaryFailure, TrestleError
from bridge.settings.records import DatabaseSettings
from bridge.storage import archive
from bridge.storage.archive import Manifest, TableNote, Writer
from bridge.storage.carry import Connect, Contents, Snapshot, snapshot
from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.door import BUSY, at_the_door, first_line
from bridge.storage.files import write_private
from bridge.storage.keys import key_files
from bridge.storage.reach import readable
from bridge.storage.retention import oldest_kept
from bridge.storage.schema import OWNER

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is, in bytes or rows."""

MASTER_KEY = "keys/master"
ERASED = "keys/erased"
"""What no copy may bring back, a line each."""
FILES = ("audit.head", "keys/event-ids", "keys/audit", ERASED)
"""What belongs to the rows and lies in the state directory, beside the keys of days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be in a backup beside the rows."""

    master_key: bool = True
    day_keys: bool = True
    settings: Mapping[str, bytes] | None = None
    """Files of the admin's own, by name."""


def quiet(_what: str, _done: int, _all: int) -> None:
    """Report nothing."""


async def back_up(
    path: Path, database: DatabaseSettings, state_dir: Path, *, clock: Clock, server_name: str,
    wanted: Wanted | None = None, force: bool = False, report: Report = quiet,
) -> Manifest:  # fmt: skip
    """Write a backup of everything as it is at this moment; return what is in it.

    It belongs to the owner of the state, even if root makes it.
    Raises ``TrestleError`` with the reason; then there is no file, or the one that was there.
    """
    archive.refuse_existing(path, force=force)
    wanted = wanted or Wanted()
    async with readable(database, state_dir) as connect:
        with at_the_door():  # One that is not there has not gone away.
            await (await connect(OWNER)).close()
        with (
            archive.writing(path, clock.now(), force=force, state_dir=state_dir) as writer,
            _told_as_cut_off(),
        ):
            manifest = await write_all(
                writer, connect, state_dir, clock, wanted, report, server_name
            )
        # At once: whoever is cut off while a database is stopped that ran for this has the file.
        note_backup(state_dir, clock.now())
    return manifest


@contextmanager
def _told_as_cut_off() -> Iterator[None]:
    """Raise ``NotNow`` where the database goes away that was there."""
    try:
        yield
    except TemporaryFailure as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, BUSY):
            raise
        why = "went away meanwhile, as the embedded one does when Trestle stops"
        way = "Make it again"
        if isinstance(cause, asyncpg.DiskFullError):
            why, way = "has no room on its disk", "Make some, then make the backup again"
        raise NotNow(
            f"the database {why} ({first_line(cause)}); no backup was made. {way}",
            path="database.url",
        ) from error


async def write_all(
    writer: Writer, connect: Connect, state_dir: Path, clock: Clock, wanted: Wanted,
    report: Report, server_name: str,
) -> Manifest:  # fmt: skip
    """Write all members, and the manifest."""
    # The audit's newest row is noted after it is stored: so what is noted now is in the snapshot,
    # and rows that are missing there are missed after a restore too.
    kept = {name: _read(state_dir / name) for name in FILES[:1]}
    with at_the_door():
        async with snapshot(connect, clock) as moment:
            contents = moment.contents
            await _write_rows(writer, moment, report)
            # After the rows: the key of a day is there before its first row.
            kept |= {name: _read(state_dir / name) for name in FILES[1:]}
            kept |= await asyncio.to_thread(_keys, state_dir, clock.today(), wanted)
    for name, data in kept.items():
        if data is not None:
            writer.add(f"files/{name}", data)
    for name, data in (wanted.settings or {}).items():
        writer.add(f"settings/{name}", data)
    manifest = _manifest(writer, contents, clock.now(), server_name)
    writer.finish(manifest)
    return manifest


def last_backup(state_dir: Path) -> datetime | None:
    """When the newest backup of this state directory was finished, None if there was none."""
    try:
        return datetime.fromisoformat(json.loads(_note(state_dir).read_bytes())["at"])
    except (OSError, KeyError, ValueError):
        return None


def began_at(state_dir: Path) -> datetime:
    """Since when there is something to back up: the installation's first start, or a restore."""
    return datetime.fromtimestamp((state_dir / "keys" / "audit").stat().st_mtime, UTC)


def note_backup(state_dir: Path, at: datetime) -> None:
    """Remember that a backup was finished."""
    note = _note(state_dir)
    data = json.dumps({"at": at.astimezone(UTC).isoformat()}).encode()
    write_private(note, data, state_dir=state_dir)


def _note(state_dir: Path) -> Path:
    return state_dir / "last-backup"


async def _write_rows(writer: Writer, moment: Snapshot, report: Report) -> None:
    contents = moment.contents
    done = 0
    for part in contents.parts:
        name = f"tables/{part}"
        # Days hold what is sealed.
        with writer.adding(name, squeeze=part.day is None) as add:

            async def write(
                data: bytes, part: object = part, add: Callable[[bytes], None] = add
            ) -> None:
                nonlocal done
                add(data)
                done += len(data)
                report(str(part), done, max(done, contents.bytes))

            rows = await moment.read(part, write)
        writer.note_rows(name, rows)


def _keys(state_dir: Path, today: date, wanted: Wanted) -> dict[str, bytes | None]:
    """The keys that are wanted, none of a day that should be forgotten."""
    found: dict[str, bytes | None] = {}
    if wanted.master_key:
        found[MASTER_KEY] = _read(state_dir / MASTER_KEY)
    if wanted.day_keys:
        for day, path in key_files(state_dir).items():
            if is_kept(day, today):
                found[f"keys/day/{day}"] = _read(path)
    return found


def is_kept(day: date, today: date) -> bool:
    """Whether a day's key may still be there."""
    return day >= oldest_kept(today, RECEIVED_DAYS)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrestleError(f"{path} cannot be read: {error.strerror}") from error


def _manifest(writer: Writer, contents: Contents, made_at: datetime, server_name: str) -> Manifest:
    return Manifest(
        made_at=made_at,
        trestle=__version__,
        schema=contents.schema,
        postgres=contents.postgres,
        generation=contents.generation,
        epoch=contents.epoch,
        server_name=server_name,
        tables={
            name: TableNote(columns=table.columns, by_day=table.by_day)
            for name, table in contents.tables.items()
        },
        sequences=contents.sequences,
        members=dict(writer.members),
    )
