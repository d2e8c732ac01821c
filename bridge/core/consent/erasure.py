"""What is kept about a person is erased: as a whole, also if it is cut off, also after a restore.

It is begun by a row of the audit and a note beside the database, and done by another row of the
audit. Where the note says that it is not done, or a backup was restored that lacks the second
row, it is done at the next start, before any network is at work. Then every note is settled, so
that nothing of somebody who comes back later is touched.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from bridge.core.lanes.cancellation import outliving_module
from bridge.core.lanes.patience import LONGEST_PAUSE, persistently
from bridge.core.logins.logins import Logins, target_of
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.model import AuditAction, Clock, Erasing, KeptRows
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.people import ForgetsPeople
from bridge.storage.erasednotes import ErasedPeople
from bridge.storage.personal import PersonalData
from bridge.storage.vault import Vault

log = logging.getLogger(__name__)

FORGET_SECONDS = 15.0
"""A module has so long to forget somebody: at a start no network is at work before that."""
_STOPPING = "Trestle stops; it is taken up when it starts again"
_IN_THE_LOG = "the log says where, and it is taken up when Trestle starts again"
_TARGET = "all that is kept about them"


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
    """Erases; of one person once at a time."""

    def __init__(
        self, house: House, portals: Portals, logins: Logins, vault: Vault, personal: PersonalData,
        notes: ErasedPeople, bots: Mapping[InstanceId, object], clock: Clock,
        generation: Callable[[], int],
    ) -> None:  # fmt: skip
        """``clock``: the audit's; ``generation``: how often the database was restored."""
        self._house = house
        self._portals = portals
        self._logins = logins
        self._vault = vault
        self._personal = personal
        self._notes = notes
        self._bots = bots
        self._clock = clock
        self._generation = generation
        self._is_loaded = False
        self.forget_limit = FORGET_SECONDS
        self.taken_up: list[UserId] = []
        """Whose erasure was taken up when we began."""

    async def load(self) -> None:
        """Take up what was cut off, and do again what a restore has undone.

        Call once the portals, the outbox and the logins are loaded, before any network is at
        work. What fails for one person is in the log, and tried again at the next start. Raises
        ``TemporaryFailure`` when the database is away.
        """
        if self._notes.has_any:
            await self._take_up()
        self._is_loaded = True

    async def begin(self, person: UserId, by: UserId) -> None:
        """Note that it is to be done: from now on it will be, whatever comes.

        Until :meth:`finish` has done it no login begins for them. Raises ``PermanentFailure`` for
        a user of ours, or while it is being done, and ``TemporaryFailure``: then nothing is begun.
        """
        if self._house.namespaces.is_ours(person):
            raise PermanentFailure(f"{person} is one of the bridge's own users, and no person")
        if not self._is_loaded:
            raise TemporaryFailure("Trestle is still starting; try again in a moment")
        self._logins.claims.claim(person)
        try:
            await self._note(person, by, self._clock.now(), self._generation())
        except BaseException:
            self._logins.claims.release(person)
            raise

    async def finish(self, person: UserId, by: UserId) -> Erased:
        """Do it, after :meth:`begin`, however long the database is away; tell of all of it.

        It goes on when the caller is gone. Raises ``TemporaryFailure`` when we stop meanwhile, and
        ``PermanentFailure`` for a fault of ours: then it is taken up at the next start.
        """
        outcome: asyncio.Future[Erased] = asyncio.get_running_loop().create_future()
        if self._logins.do(partial(self._finish, person, by, outcome)) is None:
            self._logins.claims.release(person)
            raise TemporaryFailure(_STOPPING)
        outcome.add_done_callback(lambda done: done.exception())  # The caller may be gone.
        return await asyncio.shield(outcome)

    # --- inside ---

    async def _finish(self, person: UserId, by: UserId, outcome: "asyncio.Future[Erased]") -> None:
        sums = _Sum()
        try:
            outcome.set_result(
                await persistently(lambda: self._erase(person, by, sums), LONGEST_PAUSE)
            )
        except Exception as error:
            log.exception("an erasure stopped", extra={"event": "erasure_stopped"})
            outcome.set_exception(
                error if isinstance(error, TrestleError)
                else PermanentFailure(f"it failed with {type(error).__name__}; {_IN_THE_LOG}")
            )  # fmt: skip
        finally:
            self._logins.claims.release(person)
            if not outcome.done():
                outcome.set_exception(TemporaryFailure(_STOPPING))

    async def _take_up(self) -> None:
        generation = self._generation()
        is_restored = self._notes.generation < generation
        noted = self._notes.find(await self._personal.people())
        erased_at = await self._personal.erased_at()
        undone = []
        for person, note in sorted(noted.items()):
            last = erased_at.get(person)
            is_erased = last is not None and last >= note.begun_at
            if is_erased or (note.is_done and not is_restored):
                continue
            try:
                await self._take_up_one(person, note)
            except Exception:  # One person's trouble is not everybody's.
                log.exception(
                    "what was kept about somebody is not erased; the next start tries it again",
                    extra={"event": "erasure_stopped"},
                )
                undone.append(person)
        # Nobody who is not there now comes back with what was erased, until a restore.
        await self._notes.settle_all(generation, undone=undone)

    async def _take_up_one(self, person: UserId, note: Erasing) -> None:
        bot = self._house.namespaces.bot
        if self._house.namespaces.is_ours(person):
            raise PermanentFailure("by the settings it is one of the bridge's own users now")
        self._logins.claims.claim(person)
        try:
            if note.is_done:
                # Still of that moment, and of that generation until all are seen to: by these it
                # is known in other backups, and after a cut.
                await self._note(person, bot, note.begun_at, self._notes.generation)
            await self._erase(person, bot, _Sum())
        finally:
            self._logins.claims.release(person)
        self.taken_up.append(person)
        log.warning(
            "what was kept about somebody is erased again, after a restore or a cut",
            extra={"event": "erasure_taken_up"},
        )

    async def _note(self, person: UserId, by: UserId, begun_at: datetime, generation: int) -> None:
        await self._house.audit.record(
            actor=by, action=AuditAction.ERASE, target=_TARGET, subject=person
        )
        await self._notes.note(person, begun_at, generation)

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
        # Once the rows are gone: else it is read from them again.
        self._portals.forget(person)
        self._house.announcer.forget(person)
        remarks = await self._tell_modules(person)
        await self._house.audit.record(
            actor=by, action=AuditAction.ERASED, target=f"{sums.rows} rows", subject=person
        )
        await self._notes.settle(person)
        log.info("what was kept about somebody is erased", extra={"event": "erased"})
        left = await self._what_stays(person)
        if left is None:
            remarks = [*remarks, "What stays could not be counted; say data to see it."]
        return Erased(
            logins=sums.logins, chats=sums.chats, rows=sums.rows,
            remarks=[*sums.remarks, *remarks], left=left or (),
        )  # fmt: skip

    async def _what_stays(self, person: UserId) -> Sequence[KeptRows] | None:
        """None where that cannot be counted: it is done nevertheless."""
        try:
            return await self._personal.summary(person)
        except Exception:
            log.exception(
                "what stays about somebody is not counted", extra={"event": "not_counted"}
            )
            return None

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
                with outliving_module("forget somebody"):
                    async with asyncio.timeout(self.forget_limit):
                        await module.forget(person)
            except (DeliveryError, TimeoutError) as error:
                # Its rows are gone, and its memory ends with this process.
                log.error("a module does not forget: %r", error, extra={"event": "forget_failed"})
                failed.append(f"{name} may remember you until Trestle is started again.")
        return failed
