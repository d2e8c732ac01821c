"""Restoring a backup: the state as it was, as a whole, with the old one kept aside."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import asyncpg

from bridge.model import Clock
from bridge.sdk.errors import TrestleError
from bridge.settings.records import DatabaseSettings
from bridge.storage import archive
from bridge.storage.archive import BackupRefused, Reader
from bridge.storage.backup import ERASED, MASTER_KEY, Report, Wanted, is_kept, quiet, write_all
from bridge.storage.carry import Carried, Connect, Loader, Part, holds_rows, is_over
from bridge.storage.datamap import DATA_MAP
from bridge.storage.door import first_line
from bridge.storage.erasednotes import ErasedPeople
from bridge.storage.files import make_folder, write_private
from bridge.storage.keys import key_files
from bridge.storage.lock import InstanceLock
from bridge.storage.pool import told_as_settings
from bridge.storage.postgres import EmbeddedPostgres
from bridge.storage.reach import alone_in, by_access
from bridge.storage.roles import access_by_url, embedded_access, have_roles
from bridge.storage.schema import OWNER, Connection, migrations
from bridge.storage.switch import (
    Switch,
    aside_name,
    complete,
    copy_missing,
    decide,
    make_incoming,
    new_word,
    pending,
    refuse_undecided,
    settle_by_rows,
    undo,
    undone_unless_decided,
)
from bridge.storage.thread import to_its_end

_HEAD = "audit.head"
_SEALED = {
    table.name for table in DATA_MAP if any(label.sealed for label in table.columns.values())
}
_DROP = ("inflight",)
"""What was being worked on at the end of the old state says nothing about this one."""
SESSIONS = ("token", "link")
"""Tables of people's ways in: a backup does not know which of them were ended since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did."""

    rows: int
    days_over: int
    """Days that were in the backup and are over by now: they were not taken."""
    generation: int
    aside: Path | None
    """Where the old state is kept, if there was one."""
    has_master_key: bool
    days_without_key: int
    """Days with rows whose keys are neither in the backup nor were here."""


class Restore:
    """One restore. Nothing is touched until the whole backup was read."""

    def __init__(
        self, backup: Reader, database: DatabaseSettings, state_dir: Path, *, clock: Clock,
        force: bool = False, report: Report = quiet,
    ) -> None:  # fmt: skip
        self._backup = backup
        self._manifest = backup.manifest
        self._database = database
        self._state_dir = state_dir
        self._clock = clock
        self._force = force
        self._report = report
        self.is_done = False
        """All of it is in its place: whoever is told to stop only then has it all the same."""
        # Two restores into fresh databases would have the same, and the second be taken for none.
        self._noted = ErasedPeople(state_dir).generation
        self._generation = max(backup.manifest.generation, self._noted) + 1
        newest = migrations()[-1][0]
        if backup.manifest.schema > newest:
            raise BackupRefused(
                f"the backup has schema {backup.manifest.schema}, made by Trestle "
                f"{backup.manifest.trestle}; this one knows up to {newest}. Install that version, "
                "or a newer one"
            )

    async def run(self) -> Restored:
        """Restore. Raises ``TrestleError`` with the reason; then the old state is as it was."""
        with alone_in(self._state_dir):
            embedded = self._database.url == "embedded"
            try:
                return await (self._embedded() if embedded else self._by_url())
            except OSError as error:
                raise TrestleError(f"it cannot be restored: {error.strerror or error}") from error

    # --- inside ---

    async def _embedded(self) -> Restored:
        state_dir = self._state_dir
        if (state_dir / "postgres" / "data").exists() and not self._force:
            raise TrestleError(
                f"{state_dir} holds a database already; --force restores, and keeps the old "
                "state aside"
            )
        if self._force:
            undo(state_dir)  # What another restore could not finish, with a database that is gone.
        refuse_undecided(state_dir)
        switch = self._switch("postgres")
        with undone_unless_decided(state_dir), told_as_settings(self._database):
            new = await make_incoming(state_dir)
            await to_its_end(self._put_files, new)
            server = EmbeddedPostgres(new)
            try:
                await server.start()
                access = await embedded_access(server, new)
                owner = await access.connect(OWNER)
                try:
                    async with owner.transaction():
                        await self._load(owner)
                finally:
                    await owner.close()
            finally:
                await server.stop()
            decide(state_dir, switch)
        complete(state_dir, switch)
        self.is_done = True
        return self._restored(switch)

    def _switch(self, *names: str, word: str = "") -> Switch:
        """Exchange the files for the backup's; what it lacks must not seem to belong to it."""
        lacks_head = f"files/{_HEAD}" not in self._manifest.members
        return Switch(
            names=(*names, "keys", _HEAD), drop=(_HEAD, *_DROP) if lacks_head else _DROP,
            aside=aside_name(self._state_dir, "restore", self._clock.now()), word=word,
        )  # fmt: skip

    async def _by_url(self) -> Restored:
        state_dir = self._state_dir
        switch = self._switch(word=new_word())
        with told_as_settings(self._database):
            access = access_by_url(self._database)
            lock = InstanceLock(access)
            await lock.take(alone=True)
            try:
                await have_roles(access)
                owner = await access.connect(OWNER)
                try:
                    await settle_by_rows(state_dir, owner)
                    await self._exchange(owner, switch)
                finally:
                    await owner.close()
            finally:
                await lock.release()
        return self._restored(switch)

    async def _exchange(self, owner: Connection, switch: Switch) -> None:
        """Put the rows of the backup in the place of those that are there."""
        state_dir = self._state_dir
        connect = by_access(access_by_url(self._database))
        if await holds_rows(owner, connect):
            if not self._force:
                raise TrestleError(
                    "the database holds a Trestle's rows already; --force restores, and keeps "
                    "the old ones aside as a backup"
                )
            (state_dir / switch.aside).mkdir(mode=0o700)
        try:
            if (state_dir / switch.aside).exists():
                await self._keep_aside(connect, state_dir / switch.aside / "database")
            new = await make_incoming(state_dir)
            await to_its_end(self._put_files, new)
            async with owner.transaction():
                await self._load(owner)
                await owner.execute("UPDATE lease SET owner = $1", switch.word)
                decide(state_dir, switch)
        except BaseException as error:
            if pending(state_dir) is None:
                undo(state_dir)
                # The rows that it holds are still in their place.
                shutil.rmtree(state_dir / switch.aside, ignore_errors=True)
                raise
            # Whether it was committed is not known: the next start asks the rows.
            raise TrestleError(
                f"the database went away at the last step ({first_line(error)}); start Trestle "
                "once it is back: it finds the restore done, or undoes it"
            ) from error
        complete(state_dir, switch)
        self.is_done = True

    async def _keep_aside(self, connect: Connect, file: Path) -> None:
        """Have the rows that are there in a backup.

        Their keys are put beside it, where retention finds those of days that are over.
        """
        wanted = Wanted(master_key=False, day_keys=False)
        with archive.writing(file, self._clock.now(), force=False) as writer:
            await write_all(
                writer, connect, self._state_dir, self._clock, wanted, quiet,
                self._manifest.server_name,
            )  # fmt: skip

    async def _load(self, owner: Connection) -> None:
        """Have all rows in, and read them again."""
        loader = Loader(owner, self._clock)
        old = await _newest_state(owner)
        parts = {
            _part(name): note
            for name, note in self._manifest.members.items()
            if name.startswith("tables/") and not is_over(_part(name), self._clock)
        }
        await loader.make_tables(self._manifest.schema, list(parts))
        total = sum(note.bytes for note in parts.values())
        done = 0
        for part in await loader.in_order(list(parts)):
            columns = self._manifest.tables[part.table].columns

            async def pieces(part: Part = part) -> AsyncIterator[bytes]:
                nonlocal done
                async for data in self._backup.pieces(f"tables/{part}"):
                    done += len(data)
                    self._report(str(part), done, total)
                    yield data

            await loader.load(part, columns, pieces())
        for part, note in parts.items():
            self._report(f"checking {part}", done, total)
            await loader.check(part, Carried(note.rows or 0, note.sha256))
        await loader.forget()
        await loader.clear(SESSIONS)
        self._generation = max(self._manifest.generation, old[0], self._noted) + 1
        await owner.execute("UPDATE instance_state SET generation = $1", self._generation)
        await owner.execute(
            "UPDATE lease SET epoch = $1, owner = ''", max(self._manifest.epoch, old[1]) + 1
        )
        await loader.finish(self._manifest.sequences)

    def _put_files(self, new: Path) -> None:
        """Put the keys there; what the backup lacks is taken from the state that is there."""
        today = self._clock.today()
        for name in self._manifest.members:
            inner = name.removeprefix("files/")
            if inner == name:
                continue
            day = inner.removeprefix("keys/day/")
            if day != inner and not is_kept(date.fromisoformat(day), today):
                continue
            make_folder((new / inner).parent)
            write_private(new / inner, self._backup.read(name))
        make_folder(new / "keys")
        # What was erased since the backup was made stays erased.
        erased = dict.fromkeys(
            line for one in (new, self._state_dir) for line in _lines(one / ERASED)
        )
        if erased:
            write_private(new / ERASED, "".join(erased).encode())
        over = [str(day) for day in key_files(self._state_dir) if not is_kept(day, today)]
        copy_missing(self._state_dir / "keys", new / "keys", but=["database", *over])

    def _restored(self, switch: Switch) -> Restored:
        parts = {
            _part(name): note.rows or 0
            for name, note in self._manifest.members.items()
            if name.startswith("tables/")
        }
        over = {part for part in parts if is_over(part, self._clock)}
        sealed = {
            part.day
            for part in parts.keys() - over
            if part.day is not None and part.table in _SEALED and parts[part]
        }
        aside = self._state_dir / switch.aside
        return Restored(
            rows=sum(
                rows
                for part, rows in parts.items()
                if part not in over and part.table not in SESSIONS
            ),
            days_over=len({part.day for part in over}),
            generation=self._generation,
            aside=aside if aside.exists() else None,
            has_master_key=(self._state_dir / MASTER_KEY).exists(),
            days_without_key=len(sealed - key_files(self._state_dir).keys()),
        )


async def _newest_state(owner: Connection) -> tuple[int, int]:
    """Generation and epoch of what is about to be replaced; zeros if it is nothing."""
    try:
        async with owner.transaction():
            return (
                await owner.fetchval("SELECT max(generation) FROM instance_state") or 0,
                await owner.fetchval("SELECT max(epoch) FROM lease") or 0,
            )
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return 0, 0


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def _part(name: str) -> Part:
    _, table, *day = name.split("/")
    return Part(table, date.fromisoformat(day[0]) if day else None)
