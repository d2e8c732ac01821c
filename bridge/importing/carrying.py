"""Carries over what an importer has found. What is there already stays as it is."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeAlias

from bridge.core.logins.logins import instance_of, record_of, target_of
from bridge.core.oversight.byhand import HERE
from bridge.core.permissions.optouts import EVERYWHERE
from bridge.importing.found import Found, FoundPerson, FoundRoom
from bridge.importing.keys import ChatKeys
from bridge.matrix.client import MatrixError
from bridge.model import AskedState, AuditAction, Portal
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RoomId, UserId
from bridge.sdk.importing import Adopted, FormerAccount, TakesOver
from bridge.sdk.login import LoginKind
from bridge.sdk.module import NeedsConsent, Store
from bridge.sdk.secret import Secret
from bridge.storage.accounts import Accounts
from bridge.storage.audit import Audit
from bridge.storage.consents import ConsentStore
from bridge.storage.keys import KeyLost
from bridge.storage.modulestore import InstanceStore
from bridge.storage.optouts import OptOutStore
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.vault import Vault, to_bytes

Report = Callable[[str, int, int], None]
_TRIES = 3
"""Of a room for which the homeserver asks for patience."""
_MOST_PATIENCE = 60.0
"""Seconds between them."""


class Enters(Protocol):
    """Has our bot in a room, or says what would come of that."""

    async def knock(self) -> None: ...
    async def enter(self, room: RoomId) -> None: ...
    async def look(self, room: RoomId) -> str: ...


@dataclass(slots=True)
class Carried:
    """What came of it, a line each."""

    rooms: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    """What had come over before."""
    left: list[str] = field(default_factory=list)
    sealed: dict[str, frozenset[Secret]] = field(default_factory=dict, repr=False)
    """By its source what lies in the vault now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What it carries with."""

    database: Database
    connectors: Mapping[InstanceId, object]
    names: Mapping[str, InstanceId]
    """The other bridge's names of networks, in small letters, and ours."""
    agreed: bool
    """Those who run the chats have agreed."""
    audit: Audit
    optouts: OptOutStore
    vault: Vault
    visit: Enters
    dry_run: bool
    """Change nothing, in the database and in rooms."""


Portals: TypeAlias = dict[tuple[InstanceId, RemoteChatId, LoginId | None], Portal]


class Carrier:
    """Writes to our own database, and nowhere else."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._portals = PortalStore(means.database)
        self._accounts = Accounts(means.database)
        self._consents = ConsentStore(means.database)
        self._keys = ChatKeys(means.connectors, self._accounts, means.vault, dry_run=means.dry_run)
        self._ended: set[str] = set()
        """Which rooms were tied to which chats, and are not any more."""
        self._signed_out: set[tuple[UserId | None, InstanceId]] = set()
        """Who ended a login last on which instance, or had all that they sign in with forgotten.

        Under which name does not matter: it may be another each time, as where it is the nick.
        """
        self._opted_in: set[UserId | None] = set()
        """Who has said that they are to be bridged."""
        self._stores: dict[InstanceId, Draft] = {}
        self._carried = Carried()

    @property
    def so_far(self) -> Carried:
        """What is brought over already."""
        return self._carried

    async def carry(self, found: Found, report: Report) -> Carried:
        """Bring all of it over. What was brought before stays brought, wherever it is cut.

        Raises ``TemporaryFailure`` when the database or the homeserver is away.
        """
        carried = self._carried
        carried.left += found.left
        for network in found.networks:
            if network.lower() not in self._means.names:
                self._leave(f"the network {network}", self._unknown(network))
        total = len(found.rooms) + len(found.people)
        portals = {(p.instance, p.chat, p.receiver): p for p in await self._portals.all()}
        await self._read_ended()
        await self._keep_out(found.unwanted)  # First: a cut must not leave them bridged.
        for at, room in enumerate(found.rooms):
            report("carrying rooms", at, total)
            await self._bring(room, portals)
        carried.left += self._keys.left
        carried.sealed |= self._keys.sealed
        # Those who have an account on the network have the better claim to a nick.
        people = sorted(found.people, key=lambda one: "account" not in one.kept)
        for at, person in enumerate(people, len(found.rooms)):
            report("carrying people", at, total)
            try:
                await self._person(person)
            except PermanentFailure as error:
                self._leave(f"{person.owner} on {person.network}", str(error))
        return carried

    async def _keep_out(self, people: Sequence[UserId]) -> None:
        """Have nothing of them bridged, as if they had said ``optout everywhere``."""
        means, carried = self._means, self._carried
        there = await means.optouts.rows() if people else set()
        for person in people:
            said = f"{person}: optout everywhere, since deactivated in the old bridge"
            if not _is_person(person):
                self._leave(f"{person}, deactivated in the old bridge", "that is no Matrix user")
            elif (person, EVERYWHERE) in there:
                carried.there.append(said)
            elif person in self._opted_in:
                self._leave(said, "they have said `optin` here")
            else:
                if not means.dry_run:
                    await means.audit.record(
                        actor=HERE, action=AuditAction.OPT_OUT, subject=person, target="everywhere"
                    )
                    await means.optouts.add(person, EVERYWHERE)
                carried.people.append(said)

    # --- rooms ---

    async def _bring(self, found: FoundRoom, portals: Portals) -> None:
        """Bring the room over, or leave it behind. Raises ``TemporaryFailure`` as ``carry``."""
        what = f"{found.chat} on {found.network} ({found.room})"
        for tries_left in reversed(range(_TRIES)):
            try:
                await self._room(found, portals)
            except (PermanentFailure, MatrixError) as error:
                self._leave(what, str(error))
            except TemporaryFailure as error:
                if error.retry_after is not None and tries_left:
                    await asyncio.sleep(min(error.retry_after, _MOST_PATIENCE))
                    continue
                # A homeserver may fail over one room for good, and be well otherwise.
                await self._portals.all()
                await self._means.visit.knock()
                self._leave(what, f"{error}; import again when it is well")
            return

    async def _room(self, found: FoundRoom, portals: Portals) -> None:
        means = self._means
        instance, connector = self._connector(found.network)
        chat = connector.read_former_chat(found.chat)
        name = f"{chat.name} on {instance}: {found.room}"
        there = portals.get((instance, chat.id, None))
        if there is not None and there.room == found.room:
            # It may have come over with an older Trestle, which left keys behind, or been cut off.
            is_new = await self._keys.bring(found, instance, chat)
            (self._carried.rooms if is_new else self._carried.there).append(
                f"{name}, its key" if is_new else name
            )
            return
        if there is not None:
            raise PermanentFailure(
                f"the chat is bridged to {there.room} already, and has one room here"
            )
        await self._check_wishes(instance, chat, found.room)
        if (
            not means.agreed
            and isinstance(connector, NeedsConsent)
            and connector.needs_consent(chat)
        ):
            raise PermanentFailure(
                "it belongs to those who run it; if they agreed to the other bridge, import with "
                f"--agreed, else say `{as_typed(f'bridge {instance} {chat.name}')}` in the room, "
                "and they are asked"
            )
        doubt = await means.visit.look(found.room) if means.dry_run else ""
        portals[instance, chat.id, None] = await self._tie(instance, chat, found)
        if await self._keys.bring(found, instance, chat):
            name += ", with its key"
        self._carried.rooms.append(f"{name}, {doubt}" if doubt else name)

    async def _tie(self, instance: InstanceId, chat: RemoteChat, found: FoundRoom) -> Portal:
        means = self._means
        if means.dry_run:
            return Portal(
                id=0, instance=instance, chat=chat.id, chat_name=chat.name, room=found.room
            )
        await means.visit.enter(found.room)
        await means.audit.record(
            actor=HERE, action=AuditAction.BRIDGE, subject=found.owner,
            target=_target(instance, chat.id, found.room),
        )  # fmt: skip
        return await self._portals.add(
            instance=instance, chat=chat.id, chat_name=chat.name, room=found.room,
            created_by=found.owner, follow=found.follow, members=found.members,
        )  # fmt: skip

    async def _read_ended(self) -> None:
        linked = set()
        async for row in self._means.audit.rows():
            login = (row.subject, instance_of(row.target))
            match row.action:
                case AuditAction.BRIDGE:
                    self._ended.discard(row.target)
                case AuditAction.UNBRIDGE | AuditAction.MOVE:
                    self._ended.add(row.target)
                case AuditAction.LINK:
                    linked.add(login)
                    self._signed_out.discard(login)
                case AuditAction.OPT_IN:
                    self._opted_in.add(row.subject)
                case AuditAction.LOGOUT:
                    self._signed_out.add(login)
                case AuditAction.FORGET if row.subject is not None:
                    # Not so where the master key was lost: nobody wished for that.
                    self._signed_out |= {one for one in linked if one[0] == row.subject}

    async def _check_wishes(self, instance: InstanceId, chat: RemoteChat, room: RoomId) -> None:
        """Raise ``PermanentFailure`` where people here have decided otherwise since."""
        asked = await self._consents.find(instance, chat.id)
        if asked is not None and asked.state is AskedState.REFUSED:
            why = "those who run it did not want the bridge here"
        elif _target(instance, chat.id, room) in self._ended:
            why = "it was bridged to this room before, and that was ended here"
        else:
            return
        raise PermanentFailure(
            f"{why}; if it is wanted now, say "
            f"`{as_typed(f'bridge {instance} {chat.name}')}` in the room"
        )

    # --- people ---

    async def _person(self, found: FoundPerson) -> None:
        instance, connector = self._connector(found.network)
        name = f"{found.owner} on {instance}"
        if not _is_person(found.owner):
            raise PermanentFailure("that is no Matrix user")
        store = self._stores.setdefault(
            instance, Draft(InstanceStore(self._means.database, instance))
        )
        adopted = await connector.adopt(FormerAccount(owner=found.owner, kept=found.kept), store)
        if not self._means.dry_run:
            await store.write()
        done = list(adopted.choices)
        if adopted.login and await self._sign_in(found, instance, adopted):
            done.append(f"signs in as {adopted.login}")
        if done:
            self._carried.people.append(f"{name}: {', '.join(done)}")
        elif found.kept and not adopted.left:
            self._carried.there.append(name)
        for sentence in adopted.left:
            self._leave(name, sentence)

    async def _sign_in(self, found: FoundPerson, instance: InstanceId, adopted: Adopted) -> bool:
        """Keep what the person signs in with; whether that is new."""
        means = self._means
        rows = [
            row for row in await self._accounts.logins(instance)
            if row.owner == found.owner and row.kind is LoginKind.PERSON
        ]  # fmt: skip
        whose, what = f"{found.owner} on {instance}", f"the sign-in as {adopted.login}"
        others = [row.name for row in rows if row.name != adopted.login]
        if others:
            self._leave(whose, f"{what}: there is one as {others[0]} already")
            return False
        login = rows[0].id if rows else LoginId(0)
        secrets = self._records(login, adopted)
        known: set[str] = set()
        if rows:
            known = {
                record for where, record in await means.vault.records_of(found.owner)
                if where == instance
            }  # fmt: skip
        missing = secrets.keys() - known
        # What is there in part was cut off, or the old bridge had more since.
        if missing == secrets.keys() and (found.owner, instance) in self._signed_out:
            self._leave(whose, f"{what}: theirs was ended here; `login {instance}` begins anew")
            return False
        if missing and not means.dry_run:
            await means.audit.record(
                actor=HERE, action=AuditAction.LINK, subject=found.owner,
                target=target_of(adopted.login, instance),
            )  # fmt: skip
            login = (await self._accounts.link_login(instance, found.owner, adopted.login)).id
            secrets = self._records(login, adopted)
            values = {
                record: to_bytes(secret)
                for record, secret in secrets.items() if record not in known
            }  # fmt: skip
            await means.vault.exchange(found.owner, instance, values, login=login)
        if found.source and not means.dry_run:
            sealed = await self._find_sealed(found.owner, instance, secrets)
            self._carried.sealed[found.source] = sealed
        return bool(missing)

    async def _find_sealed(
        self, owner: UserId, instance: InstanceId, secrets: Mapping[str, Secret]
    ) -> frozenset[Secret]:
        """Those of the secrets that the vault gives back: its record may hold a newer one."""
        found = set()
        for record, secret in secrets.items():
            with suppress(KeyLost):
                if await self._means.vault.find(owner, instance, record) == to_bytes(secret):
                    found.add(secret)
        return frozenset(found)

    @staticmethod
    def _records(login: LoginId, adopted: Adopted) -> dict[str, Secret]:
        given = {record_of(login, name): one for name, one in adopted.secrets.items()}
        kept = {record_of(login, name, beside=True): one for name, one in adopted.beside.items()}
        return given | kept

    # --- both ---

    def _connector(self, network: str) -> tuple[InstanceId, TakesOver]:
        means = self._means
        instance = means.names.get(network.lower())
        if instance is None:
            raise PermanentFailure(self._unknown(network))
        connector = means.connectors[instance]
        if not isinstance(connector, TakesOver):
            raise PermanentFailure(f"the module of {instance} does not import")
        return instance, connector

    def _unknown(self, network: str) -> str:
        ours = ", ".join(sorted(self._means.connectors)) or "none"
        return (
            f"no network here is called {network!r}; say which it is with --network "
            f"{network or 'NAME'}=INSTANCE; there are: {ours}"
        )

    def _leave(self, what: str, why: str) -> None:
        self._carried.left.append(f"{what}: {why.rstrip('.')}")


def _is_person(user: UserId) -> bool:
    return user.startswith("@") and ":" in user


def _target(instance: InstanceId, chat: RemoteChatId, room: RoomId) -> str:
    """As ``core.portals`` names it to the audit."""
    return f"{instance} {chat} {room}"


class Draft:
    """A store in which nothing is written until :meth:`write`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._put: dict[str, tuple[bytes, str | None]] = {}

    async def get(self, key: str) -> bytes | None:
        """The value as it would be."""
        return self._put[key][0] if key in self._put else await self._store.get(key)

    async def put(
        self, key: str, value: bytes, *, subject: str | None = None, room: RoomId | None = None,
        keep_for: timedelta | None = None,
    ) -> None:  # fmt: skip
        """Note what is to be written; of rooms and times an import knows nothing."""
        self._put[key] = (value, subject)

    async def delete(self, key: str) -> None:
        """Take back what was noted; what is stored stays."""
        self._put.pop(key, None)

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """All keys that begin so, as they would be."""
        noted = {key: one[0] for key, one in self._put.items() if key.startswith(prefix)}
        return {**await self._store.find(prefix), **noted}

    async def write(self) -> None:
        """Write what was noted."""
        for key in sorted(self._put):
            value, subject = self._put[key]
            await self._store.put(key, value, subject=subject)
            del self._put[key]
