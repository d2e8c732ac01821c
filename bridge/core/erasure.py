"""What is kept about a person is erased: as a whole, also if it is cut off, also after a restore.

It is begun by a row of the audit and a note beside the database, and done by another row of the
audit. Where the note is there and the second row is not, we were cut off, or an older backup was
restored: then it is done at the next start, before any network is at work.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.core.house import House
from bridge.core.logins import Logins, target_of
from bridge.core.portals import Portals
from bridge.model import AuditAction, KeptRows
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.people import ForgetsPeople

log = logging.getLogger(__name__)

_TARGET = "all that is kept about them"


class Personal(Protocol):
    """The part of the storage that knows what is kept about a person."""

    async def summary(self, person: UserId) -> Sequence[KeptRows]: ...
    async def erase(self, person: UserId) -> Mapping[str, int]: ...
    async def people(self) -> Collection[UserId]: ...
    async def was_erased(self, person: UserId, row: int) -> bool: ...


class Notes(Protocol):
    """Who had it erased, kept where no restore undoes it."""

    @property
    def has_any(self) -> bool: ...
    def find(self, people: Iterable[UserId]) -> Mapping[UserId, int]: ...
    async def note(self, person: UserId, row: int) -> None: ...


class Vault(Protocol):
    """The part of the storage that keeps credentials."""

    async def erase(self, subject: UserId) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was done."""

    logins: Sequence[str]
    """The accounts whose logins were ended."""
    chats: int
    """Direct chats that ended with them."""
    rows: int
    remarks: Sequence[str]
    """What is to be known besides, in sentences."""
    left: Sequence[KeptRows]
    """What stays, and why."""


@dataclass(slots=True)
class _Sum:
    logins: list[str] = field(default_factory=list)
    chats: int = 0
    rows: int = 0
    remarks: list[str] = field(default_factory=list)


class Erasure:
    """Erases; one person at a time is asked for."""

    def __init__(
        self, house: House, portals: Portals, logins: Logins, vault: Vault, personal: Personal,
        notes: Notes, bots: Mapping[InstanceId, object],
    ) -> None:  # fmt: skip
        self._house = house
        self._portals = portals
        self._logins = logins
        self._vault = vault
        self._personal = personal
        self._notes = notes
        self._bots = bots
        self._at_work: set[UserId] = set()
        self._sums: dict[UserId, _Sum] = {}
        """What was done of what is not finished, by who it is about."""
        self.taken_up: list[UserId] = []
        """Whose erasure was taken up when we began."""

    async def load(self) -> None:
        """Take up what was cut off, and do again what a restore has undone.

        Call once the portals, the outbox and the logins are loaded, before any network is at
        work. Raises ``TemporaryFailure`` when the database is away.
        """
        if not self._notes.has_any:
            return
        noted = self._notes.find(await self._personal.people())
        for person, row in sorted(noted.items()):
            if await self._personal.was_erased(person, row):
                continue
            # By a row that the database has, which may be an older one than the note knows.
            await self.begin(person, self._house.namespaces.bot)
            await self.finish(person, self._house.namespaces.bot)
            self.taken_up.append(person)
            log.warning(
                "what was kept about somebody is erased again, after a restore or a cut",
                extra={"event": "erasure_taken_up"},
            )

    async def begin(self, person: UserId, by: UserId) -> None:
        """Note that it is to be done: from now on it will be, whatever comes.

        Raises ``PermanentFailure`` for who is no person, or while it is being done, and
        ``TemporaryFailure``: then nothing was begun.
        """
        if self._house.namespaces.is_ours(person):
            raise PermanentFailure(f"{person} is one of the bridge's own users, and no person")
        if person in self._at_work:
            raise PermanentFailure("that is being done just now")
        row = await self._house.audit.record(
            actor=by, action=AuditAction.ERASE, target=_TARGET, subject=person
        )
        await self._notes.note(person, row)

    async def finish(self, person: UserId, by: UserId) -> Erased:
        """Do it, after :meth:`begin`; done again, it does what is left, and tells of all of it.

        Raises ``TemporaryFailure`` when the database is away.
        """
        if person in self._at_work:
            raise TemporaryFailure("that is being done just now")
        self._at_work.add(person)
        try:
            done = await self._erase(person, by, self._sums.setdefault(person, _Sum()))
            del self._sums[person]
            return done
        finally:
            self._at_work.discard(person)

    # --- inside ---

    async def _erase(self, person: UserId, by: UserId, sums: _Sum) -> Erased:
        sums.chats = max(sums.chats, self._chats_of(person))
        for session in list(self._logins.of(person)):
            remark = await self._logins.log_out(person, session)
            sums.logins.append(target_of(session.row.name, session.row.instance))
            sums.remarks += [remark] if remark else []
        await self._house.double_puppets.switch_off(person)
        sums.rows += await self._vault.erase(person)
        await self._logins.note_forgotten(person)
        sums.logins += await self._logins.end_absent(person)
        sums.rows += sum((await self._personal.erase(person)).values())
        self._portals.unname(person)
        remarks = await self._tell_modules(person)
        left = await self._personal.summary(person)
        await self._house.audit.record(
            actor=by, action=AuditAction.ERASED, target=f"{sums.rows} rows", subject=person
        )
        log.info("what was kept about somebody is erased", extra={"event": "erased"})
        return Erased(
            logins=sums.logins, chats=sums.chats, rows=sums.rows,
            remarks=[*sums.remarks, *remarks], left=left,
        )  # fmt: skip

    def _chats_of(self, person: UserId) -> int:
        doors = self._portals.all
        return sum(
            door.portal.receiver is not None and door.portal.created_by == person for door in doors
        )

    async def _tell_modules(self, person: UserId) -> Sequence[str]:
        """Have modules know nothing more; which of them failed, in sentences."""
        modules = {name: one.connector for name, one in self._house.instances.items()}
        failed = []
        for name, module in sorted({**modules, **self._bots}.items()):
            if not isinstance(module, ForgetsPeople):
                continue
            try:
                await module.forget(person)
            except Exception:  # A module is a stranger; its rows are gone, and its memory ends.
                log.exception("a module does not forget", extra={"event": "forget_failed"})
                failed.append(f"{name} may remember you until Trestle is started again.")
        return failed
