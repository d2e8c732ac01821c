"""Whose own Matrix account says what they write from their own account on a network."""

import logging
from collections.abc import Collection, Sequence
from enum import StrEnum
from time import monotonic
from typing import NamedTuple

from bridge.core.lanes.patience import promptly
from bridge.logs import hide
from bridge.matrix.client import HomeserverAway
from bridge.matrix.doubles import Doubles, Leave
from bridge.model import AuditAction, LoginRow
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure
from bridge.sdk.events import RemoteUser
from bridge.sdk.ids import EventId, InstanceId, LoginId, RemoteUserId, RoomId, UserId
from bridge.sdk.secret import Secret
from bridge.storage.audit import Audit
from bridge.storage.doublepuppets import DoublePuppetStore
from bridge.storage.vault import Vault

log = logging.getLogger(__name__)

_FRESH = 45.0
"""Seconds for which it is believed whom somebody ignores: less than the minute promised."""
_AGAIN = 5.0
"""Seconds after which a homeserver that did not tell is asked again."""


class Way(StrEnum):
    """By what somebody lets us speak."""

    APPSERVICE = "appservice"
    """By our own token, as the registration allows."""
    TOKEN = "token"  # noqa: S105 - a word
    """By a token that the person gave."""


class _Ignored(NamedTuple):
    until: float
    users: frozenset[str]


_OURS, _RECORD = InstanceId(""), "double puppet"
"""Where a token lies in the vault: it belongs to no module."""


class DoublePuppets:
    """Who gave leave, and which accounts on the networks are theirs. Held in memory."""

    def __init__(
        self, store: DoublePuppetStore, safe: Vault, doubles: Doubles, audit: Audit,
        server_name: str,
    ) -> None:  # fmt: skip
        self._store = store
        self._audit = audit
        self._safe = safe
        self._doubles = doubles
        self._server = f":{server_name}"
        self._ways: dict[UserId, Way] = {}
        self._leaves: dict[UserId, Leave] = {}
        self._refused: dict[UserId, str] = {}
        """Why the homeserver no longer lets us act for somebody."""
        self._owners: dict[tuple[InstanceId, RemoteUserId], UserId] = {}
        self._said: dict[LoginId, set[RemoteUserId]] = {}
        """As which accounts each login has been signed in since we began."""
        self._ignored: dict[UserId, _Ignored] = {}
        doubles.leave_of = self.leave_of
        doubles.on_refused = self._note_refused
        self.find_instance = doubles.find_instance

    async def load(self) -> None:
        """Read who gave leave and whose accounts are known. Call once, at the start."""
        for person in await self._store.taken_back():
            await self._safe.delete(person, _OURS, _RECORD)
            await self._store.remove_puppet(person)
        self._ways = {person: Way(way) for person, way in await self._store.puppets()}
        self._owners = {
            (instance, remote): owner for instance, remote, owner in await self._store.accounts()
        }

    async def look(self) -> None:
        """See at the start whether our own token still lets us speak for people.

        Raises ``TemporaryFailure`` when the homeserver is away.
        """
        people = [person for person, way in self._ways.items() if way is Way.APPSERVICE]
        if not people:
            return
        # It is the registration that lets us, so one person stands for all.
        try:
            await self._doubles.check(people[0], Leave())
        except PermanentFailure:
            reason = (
                "the homeserver does not let me act for people any more; an admin can change "
                "that (appservice.double_puppets)"
            )
            log.warning("double puppets are silent: %s", reason, extra={"event": "double_silent"})
            self._refused |= dict.fromkeys(people, reason)

    # --- whose account it is ---

    async def identify(self, row: LoginRow, remote: RemoteUserId) -> None:
        """Note which account on the network a person's login is. Raises ``TemporaryFailure``."""
        if row.owner is None:
            return
        self._said.setdefault(row.id, set()).add(remote)
        if self._owners.get((row.instance, remote)) == row.owner:
            return
        await self._store.set_account(row.instance, remote, row.owner)
        self._owners[row.instance, remote] = row.owner

    async def forget(self, row: LoginRow, left: Collection[LoginId]) -> None:
        """Note that a login was ended, and which ones its owner has ``left`` on its network.

        The accounts of those stay the owner's. One that no login has named since we began is the
        owner's again as soon as a login names it. Raises ``TemporaryFailure``.
        """
        if row.owner is None:
            return
        instance, person = row.instance, row.owner
        kept = set().union(*(self._said.get(login, ()) for login in left))
        await self._store.remove_accounts(instance, person, kept)
        self._said.pop(row.id, None)
        self._owners = {
            key: owner
            for key, owner in self._owners.items()
            if (key[0], owner) != (instance, person) or key[1] in kept
        }

    def find_owner(self, instance: InstanceId, user: RemoteUser) -> UserId | None:
        """Who in Matrix somebody of the network is, as far as a login has said: by the account
        that they are signed in to, else by the id."""
        owner = self._owners.get((instance, user.account)) if user.account else None
        return owner or self._owners.get((instance, user.id))

    def find_speaker(self, instance: InstanceId, user: RemoteUser) -> UserId | None:
        """Who says with the own Matrix account what somebody of the network writes."""
        owner = self.find_owner(instance, user)
        return owner if owner in self._ways and owner not in self._refused else None

    # --- leave ---

    async def leave_of(self, person: UserId) -> Leave | None:
        """By what we may act for the person; None if we may not, or no longer."""
        way = self._ways.get(person)
        if way is None or person in self._refused:
            return None
        leave = self._leaves.get(person)
        if leave is None and way is Way.TOKEN:
            token, trouble = await self._open(person)
            if self._ways.get(person) is not way or person in self._leaves:
                return await self.leave_of(person)  # It was taken back meanwhile, or given anew.
            if trouble:
                self._note_refused(person, trouble)
            leave = Leave(token)
        leave = self._leaves[person] = leave or Leave()
        return leave if way is Way.APPSERVICE or leave.token else None

    async def _open(self, person: UserId) -> tuple[Secret | None, str]:
        """The person's token; or why there is none."""
        try:
            found = await self._safe.find(person, _OURS, _RECORD)
        except PermanentFailure as error:
            return None, f"the token cannot be read ({error}); give a new one"
        if not found:
            return None, "the token is not there any more; give a new one"
        token = Secret(found.decode())
        hide(token)
        return token, ""

    def _note_refused(self, person: UserId, reason: str) -> None:
        log.warning("a double puppet is silent: %s", reason, extra={"event": "double_silent"})
        self._refused[person] = reason

    async def switch_on(self, person: UserId) -> None:
        """Speak for the person by our own token. Raises ``PermanentFailure`` with the way out."""
        if self._ways.get(person) is Way.TOKEN and person not in self._refused:
            return
        try:
            self._refuse_strangers(person)
            await self._doubles.check(person, Leave())
        except PermanentFailure as error:
            raise PermanentFailure(
                f"{error}. In a direct chat with me you can give me an access token of yours "
                "instead: double-puppet token and the token"
            ) from error
        await self._keep(person, Way.APPSERVICE, Leave())

    async def take_token(self, person: UserId, token: Secret) -> None:
        """Speak for the person by the token. Raises ``PermanentFailure`` if it is not good."""
        leave = Leave(token)
        self._refuse_strangers(person)
        await self._doubles.check(person, leave)
        hide(token)
        await self._keep(person, Way.TOKEN, leave)

    async def take_back(self, person: UserId, token: Secret, room: RoomId, said: EventId) -> bool:
        """Take back, by the token, the message that held it; False if it does not let us."""
        return await self._doubles.redact(person, Leave(token), room, said)

    async def switch_off(self, person: UserId) -> None:
        """Stop speaking for the person, and forget the token."""
        if person in self._ways:
            await self._record(person, AuditAction.DOUBLE_OFF)
        await self._store.remove_puppet(person)
        for known in (self._ways, self._leaves, self._refused, self._ignored):
            known.pop(person, None)
        await self._safe.delete(person, _OURS, _RECORD)

    async def forget_token(self, person: UserId) -> None:
        """Stop speaking for the person by a token: it was destroyed. Leave without one stays."""
        if self._ways.get(person) is not Way.TOKEN:
            return
        await self._store.remove_puppet(person)
        for known in (self._ways, self._leaves, self._refused, self._ignored):
            known.pop(person, None)

    async def _keep(self, person: UserId, way: Way, leave: Leave) -> None:
        await self._record(person, AuditAction.DOUBLE_ON, way.value)
        if leave.token is not None:
            await self._safe.put(person, _OURS, _RECORD, leave.token.reveal().encode())
        await self._store.set_puppet(person, way)
        if leave.token is None:
            await self._safe.delete(person, _OURS, _RECORD)  # One that was given before.
        self._ways[person], self._leaves[person] = way, leave
        self._refused.pop(person, None)
        self._ignored.pop(person, None)

    async def _record(self, person: UserId, action: AuditAction, target: str = "") -> None:
        await self._audit.record(actor=person, action=action, target=target, subject=person)

    def _refuse_strangers(self, person: UserId) -> None:
        if not person.endswith(self._server):
            raise PermanentFailure(f"I can act only for people of {self._server[1:]}")

    def describe(self, person: UserId) -> str:
        """How it is with the person, in a sentence."""
        way = self._ways.get(person)
        if way is None:
            return "What you write on a network comes from your ghost here."
        if person in self._refused:
            return f"Your own account does not speak for you: {self._refused[person]}."
        how = "by the token that you gave me" if way is Way.TOKEN else "as the homeserver allows"
        said = f"What you write on a network comes from your own account here, {how}."
        if person in self._owners.values():
            return said
        return (
            f"{said} But no login of yours has told me yet of an account on a network, by which I "
            "would know you there (logins are what you link by hand, where a network takes that): "
            "till one does, it comes from your ghost."
        )

    # --- whom they ignore ---

    async def ignores(self, person: UserId, other: UserId) -> bool:
        """Whether somebody who gave leave ignores the other one, as of less than a minute ago.

        Where the homeserver is away, as it said last. Raises ``HomeserverAway`` if it never did:
        nobody is let through before that who may be ignored.
        """
        leave = await self.leave_of(person)
        if leave is None:
            return False
        known = self._ignored.get(person)
        if known is None or monotonic() > known.until:
            try:
                users = await promptly(self._doubles.ignored_by(person, leave))
            except DeliveryError as error:
                log.info("it is not known whom somebody ignores: %s", error,
                         extra={"event": "ignored_unknown"})  # fmt: skip
                if known is None and isinstance(error, HomeserverAway):
                    raise
                users = known.users if known else frozenset()
                known = _Ignored(monotonic() + _AGAIN, users)
            else:
                known = _Ignored(monotonic() + _FRESH, users)
            self._ignored[person] = known
        return other in known.users


def read_token(words: Sequence[str]) -> Secret:
    """The token in a command. Raises ``PermanentFailure`` if it cannot be one."""
    word = words[0] if len(words) == 1 else ""
    if len(word) < 10 or not (word.isascii() and word.isprintable()):
        how = as_typed("double-puppet token", direct=True)  # It is taken nowhere else.
        raise PermanentFailure(f"say {how}, and then the token alone")
    return Secret(word)
