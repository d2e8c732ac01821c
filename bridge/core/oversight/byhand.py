"""What an admin has done from the command line, whether Trestle runs or not.

Both the running program and a command that finds none do it; so nothing of the bridge is loaded
for it.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bridge.model import AuditAction, ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.audit import Audit
from bridge.storage.personal import PersonalData
from bridge.storage.rotation import Rotation
from bridge.storage.rotation import Step as Sealed
from bridge.storage.shelf import Parked, Shelf

HERE = UserId("the command line")
"""Who acts by it: anyone who may use it on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far it is with many."""

    done: int
    total: int
    name: str = ""
    """What it was about."""
    faults: tuple[str, ...] = ()
    """What could not be done in this step, a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of what is parked are meant."""

    room: RoomId | None = None
    reason: ParkReason | None = None
    expected: int | None = None
    """How many whoever asks has seen: if there are more or fewer, nothing is done."""
    names: frozenset[str] | None = None
    """Of those alone; None: of all."""

    def among(self, parked: Sequence[Parked]) -> Sequence[Parked]:
        """Give them. Raises ``PermanentFailure`` if they are not as many as expected."""
        found = [
            one for one in parked
            if self.reason in (None, one.reason) and (self.names is None or one.name in self.names)
        ]  # fmt: skip
        if self.expected not in (None, len(found)):
            raise PermanentFailure(
                f"{len(found)} are parked now, not {self.expected}, so nothing was done; look "
                "at them first"
            )
        return found


async def drop_each(
    shelf: Shelf, audit: Audit, choice: Choice, *, by: UserId = HERE
) -> AsyncGenerator[Step, None]:
    """Let all of a choice go for good, one after the other."""
    found = choice.among(await shelf.all(choice.room))
    for number, parked in enumerate(found, 1):
        if await shelf.has(parked):
            await audit.record(actor=by, action=AuditAction.DROP, target=parked.name)
            await shelf.drop(parked)
        yield Step(done=number, total=len(found), name=parked.name)


async def rotate(rotation: Rotation, audit: Audit) -> AsyncGenerator[Sealed, None]:
    """Change the master key for an admin, step by step."""
    try:
        await audit.record(actor=HERE, action=AuditAction.ROTATE, target="keys")
    except TemporaryFailure as error:
        raise TemporaryFailure(f"{error}; nothing was done") from error
    async with aclosing(rotation.rotate()) as steps:
        async for step in steps:
            yield step


async def forget(person: UserId, rotation: Rotation, audit: Audit) -> int:
    """Destroy a person's credentials for an admin; how many there were."""
    await audit.record(actor=HERE, action=AuditAction.FORGET, target="keys", subject=person)
    return await rotation.vault.erase(person)


async def copy_of(person: UserId, personal: PersonalData, audit: Audit) -> bytes:
    """Make a copy of what is kept about a person for an admin, which that person sees in it."""
    await audit.record(actor=HERE, action=AuditAction.EXPORT, target="a copy", subject=person)
    return await personal.copy(person)
