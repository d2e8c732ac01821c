"""Carries over what an importer has found. What is there already stays as it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from bridge.core.aside import HERE
from bridge.core.audit import Audit
from bridge.core.logins import record_of
from bridge.importing.found import Found, FoundPerson, FoundRoom
from bridge.matrix.client import MatrixError
from bridge.model import AuditAction, Follow, Portal
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RoomId
from bridge.sdk.importing import Adopted, FormerAccount, TakesOver
from bridge.sdk.login import LoginKind
from bridge.sdk.module import NeedsConsent, Store
from bridge.sdk.secret import Secret
from bridge.storage.accounts import Accounts
from bridge.storage.modulestore import InstanceStore
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.vault import Vault, to_bytes

Report = Callable[[str, int, int], None]


class Enters(Protocol):
    """Has our bot in a room, or says what would come of that."""

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
    vault: Vault
    visit: Enters
    dry_run: bool
    """Change nothing, in the database and in rooms."""


class Carrier:
    """Writes to our own database, and nowhere else."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._portals = PortalStore(means.database)
        self._accounts = Accounts(means.database)
        self._stores: dict[InstanceId, Draft] = {}
        self._carried = Carried()

    async def carry(self, found: Found, report: Report) -> Carried:
        """Bring all of it over. What was brought before stays brought, wherever it is cut.

        Raises ``TemporaryFailure`` when the database or the homeserver is away.
        """
        carried = self._carried
        carried.left += found.left
        total = len(found.rooms) + len(found.people)
        portals = {(p.instance, p.chat, p.receiver): p for p in await self._portals.all()}
        for at, room in enumerate(found.rooms):
            report("carrying rooms", at, total)
            try:
                await self._room(room, portals)
            except (PermanentFailure, MatrixError) as error:
                self._leave(f"{room.chat} on {room.network} ({room.room})", str(error))
        # Who has an account on the network has the better claim to a nick.
        people = sorted(found.people, key=lambda one: "account" not in one.kept)
        for at, person in enumerate(people, len(found.rooms)):
            report("carrying people", at, total)
            try:
                await self._person(person)
            except PermanentFailure as error:
                self._leave(f"{person.owner} on {person.network}", str(error))
        return carried

    # --- rooms ---

    async def _room(
        self,
        found: FoundRoom,
        portals: dict[tuple[InstanceId, RemoteChatId, LoginId | None], Portal],
    ) -> None:
        means = self._means
        instance, connector = self._connector(found.network)
        chat = connector.read_former_chat(found.chat)
        name = f"{chat.name} on {instance}: {found.room}"
        there = portals.get((instance, chat.id, None))
        if there is not None and there.room == found.room:
            self._carried.there.append(name)
            return
        if there is not None:
            raise PermanentFailure(
                f"the chat is bridged to {there.room} already, and has one room here"
            )
        if (
            not means.agreed
            and isinstance(connector, NeedsConsent)
            and connector.needs_consent(chat)
        ):
            raise PermanentFailure(
                "it belongs to those who run it; if they agreed to the other bridge, import with "
                f"--agreed, else say `bridge {instance} {chat.name}` in the room, and they are "
                "asked"
            )
        doubt = await means.visit.look(found.room) if means.dry_run else ""
        portals[instance, chat.id, None] = await self._tie(instance, chat, found)
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
            target=f"{instance} {chat.id} {found.room}",
        )  # fmt: skip
        return await self._portals.add(
            instance=instance, chat=chat.id, chat_name=chat.name, room=found.room,
            created_by=found.owner, follow=Follow.ALL if found.is_bridges else Follow.TOPIC,
        )  # fmt: skip

    # --- people ---

    async def _person(self, found: FoundPerson) -> None:
        instance, connector = self._connector(found.network)
        name = f"{found.owner} on {instance}"
        if not found.owner.startswith("@") or ":" not in found.owner:
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
        others = [row.name for row in rows if row.name != adopted.login]
        if others:
            self._leave(
                f"{found.owner} on {instance}",
                f"the sign-in as {adopted.login}: there is one as {others[0]} already",
            )
            return False
        secrets = self._records(rows[0].id if rows else LoginId(0), adopted)
        known: set[str] = set()
        if rows:
            known = {
                record for where, record in await means.vault.records_of(found.owner)
                if where == instance
            }  # fmt: skip
        missing = secrets.keys() - known
        if missing and not means.dry_run:
            await means.audit.record(
                actor=HERE, action=AuditAction.LINK, subject=found.owner,
                target=f"{adopted.login} on {instance}",
            )  # fmt: skip
            row = await self._accounts.link_login(instance, found.owner, adopted.login)
            values = {
                record: to_bytes(secret)
                for record, secret in self._records(row.id, adopted).items()
                if record not in known
            }
            await means.vault.exchange(found.owner, instance, values, login=row.id)
        if found.source:
            kept = {*adopted.secrets.values(), *adopted.beside.values()}
            self._carried.sealed[found.source] = frozenset(kept)
        return bool(missing)

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
            ours = ", ".join(sorted(means.connectors)) or "none"
            raise PermanentFailure(
                f"no network here is called {network!r}; say which it is with --network "
                f"{network or 'NAME'}=INSTANCE; there are: {ours}"
            )
        connector = means.connectors[instance]
        if not isinstance(connector, TakesOver):
            raise PermanentFailure(f"the module of {instance} does not import")
        return instance, connector

    def _leave(self, what: str, why: str) -> None:
        self._carried.left.append(f"{what}: {why.rstrip('.')}")


class Draft:
    """A store in which nothing is written until :meth:`write`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._put: dict[str, tuple[bytes, str | None]] = {}
        self._fresh: set[str] = set()

    async def get(self, key: str) -> bytes | None:
        """The value as it would be."""
        return self._put[key][0] if key in self._put else await self._store.get(key)

    async def put(
        self, key: str, value: bytes, *, subject: str | None = None, room: RoomId | None = None,
        keep_for: timedelta | None = None,
    ) -> None:  # fmt: skip
        """Note what is to be written; of rooms and times an import knows nothing."""
        self._put[key] = (value, subject)
        self._fresh.add(key)

    async def delete(self, key: str) -> None:
        """Take back what was noted; what is stored stays."""
        self._put.pop(key, None)
        self._fresh.discard(key)

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """All keys that begin so, as they would be."""
        noted = {key: one[0] for key, one in self._put.items() if key.startswith(prefix)}
        return {**await self._store.find(prefix), **noted}

    async def write(self) -> None:
        """Write what was noted since."""
        for key in sorted(self._fresh):
            value, subject = self._put[key]
            await self._store.put(key, value, subject=subject)
            self._fresh.discard(key)
