"""Speaking as a real person, with leave: what makes a double puppet of somebody's account.

The homeserver lets us in two ways: by our own token, if the registration's namespaces hold the
person (``appservice.double_puppets``), or by an access token that the person gave us. Neither
signs in, so both work where an authentication service of its own keeps the accounts.
"""

import base64
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.matrix.client import (
    HomeserverAway,
    HomeserverClient,
    MatrixError,
    event_id_of,
    path,
    quoted,
)
from bridge.matrix.dates import dating
from bridge.matrix.intents import MARK
from bridge.matrix.namespaces import Namespaces
from bridge.model import Outgoing
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId, InstanceId, RoomId, UserId
from bridge.sdk.secret import Secret

log = logging.getLogger(__name__)

DOUBLE = "org.trestle.double"
"""In the content of what a double puppet says: the instance it came from, and the proof."""

_ENDED = {"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED"}


@dataclass(frozen=True, slots=True)
class Leave:
    """By what we may act for somebody: the token that the person gave, else our own."""

    token: Secret | None = None


class Doubles:
    """Acts as people who gave us leave, and knows again what was said so."""

    def __init__(
        self, client: HomeserverClient, namespaces: Namespaces, key_of: Callable[[str], bytes]
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._key_of = key_of
        self.leave_of: Callable[[UserId], Awaitable[Leave | None]] = _nobodys
        """Gives the leave that a person has given, None if none."""
        self.on_refused: Callable[[UserId, str], None] = lambda person, reason: None
        """Called when the homeserver no longer lets us act for somebody."""
        self.before_saying: Callable[[Outgoing], None] = lambda outgoing: None
        """Called when an event only has to be put; raises what keeps it from that."""

    # --- speaking ---

    async def send(self, outgoing: Outgoing) -> EventId | None:
        """Say it as ``outgoing.double``; None if that cannot be, so that the ghost must.

        Raises ``TemporaryFailure``; then it may have been said, and the same will be tried.
        """
        person = UserId(outgoing.double)
        leave = await self.leave_of(person)
        if leave is None:
            return None
        there = path("v3", "rooms", outgoing.room, "send", outgoing.type)
        place = f"{there}/{quoted(outgoing.transaction_id)}"
        try:
            # With a token of theirs we are no application service, which alone may give a time.
            query = None if leave.token else dating(outgoing)
            self.before_saying(outgoing)
            reply = await self._ask(person, leave, "PUT", place, self._marked(outgoing), query)
        except MatrixError as error:
            await self._note_end(person, leave, error)
            log.info("a double puppet cannot speak: %s", error.errcode,
                     extra={"event": "double_refused"})  # fmt: skip
            return None
        return event_id_of(reply)

    def _marked(self, outgoing: Outgoing) -> dict[str, Any]:
        ghost = self._namespaces.parse_ghost(outgoing.user)
        instance = ghost[0] if ghost else InstanceId("")
        proof = self._proof(
            outgoing.double, outgoing.room, outgoing.transaction_id, instance
        )  # fmt: skip
        return {
            **outgoing.content,
            MARK: outgoing.transaction_id,
            DOUBLE: {"instance": instance, "proof": proof},
        }

    def find_instance(self, event: Mapping[str, Any]) -> InstanceId | None:
        """The instance that an event came from, if a double puppet of ours said it; else None.

        Nobody can pretend that: the proof is made with a key of ours, for that person and room.
        """
        content = event.get("content")
        found = content.get(DOUBLE) if isinstance(content, dict) else None
        if not isinstance(found, dict) or not isinstance(content, dict):
            return None
        instance, proof = found.get("instance"), found.get("proof")
        mark = content.get(MARK)
        if not (isinstance(instance, str) and isinstance(proof, str) and isinstance(mark, str)):
            return None
        right = self._proof(str(event.get("sender")), str(event.get("room_id")), mark, instance)
        same = hmac.compare_digest(right.encode(), proof.encode("utf-8", "surrogatepass"))
        return InstanceId(instance) if same else None

    def _proof(self, person: str, room: str, transaction_id: str, instance: str) -> str:
        digest = self._key_of("\x1f".join(("double", person, room, transaction_id, instance)))
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    # --- leave ---

    async def check(self, person: UserId, leave: Leave) -> None:
        """See that the homeserver lets us act for the person.

        Raises ``PermanentFailure`` with the reason, or ``HomeserverAway``. A token must be the
        person's, and of a device without encryption keys: what is encrypted for it would be ours
        to read.
        """
        try:
            reply = await self._ask(person, leave, "GET", path("v3", "account", "whoami"))
        except MatrixError as error:
            raise PermanentFailure(
                "the homeserver does not know this token"
                if leave.token
                else f"the homeserver does not let me act for {person}"
            ) from error
        told = reply.get("user_id")
        if told != person:
            raise PermanentFailure("this token belongs to somebody else")
        device = reply.get("device_id")
        if leave.token and isinstance(device, str) and await self._has_keys(person, device, leave):
            raise PermanentFailure(
                "this token belongs to a session that can read encrypted messages; make one for "
                "me alone, without encryption"
            )

    async def _note_end(self, person: UserId, leave: Leave, error: MatrixError) -> None:
        """Report it if the homeserver said no because it no longer lets us act for the person."""
        if error.errcode in _ENDED or (
            error.status == 403 and await self._is_refused(person, leave)
        ):
            self.on_refused(person, _ended(leave))

    async def _is_refused(self, person: UserId, leave: Leave) -> bool:
        """Whether it is the person that we may not act for, and not the room that is closed."""
        try:
            await self._ask(person, leave, "GET", path("v3", "account", "whoami"))
        except MatrixError:
            return True
        return False

    async def _has_keys(self, person: UserId, device: str, leave: Leave) -> bool:
        asked = {"device_keys": {person: [device]}}
        try:
            reply = await self._ask(person, leave, "POST", path("v3", "keys", "query"), asked)
        except MatrixError as error:
            raise PermanentFailure(f"I cannot see what this session is: {error}") from error
        keys = reply.get("device_keys")
        of_person = keys.get(person) if isinstance(keys, dict) else None
        return isinstance(of_person, dict) and device in of_person

    async def redact(self, person: UserId, leave: Leave, room: RoomId, event: EventId) -> bool:
        """Take back a message as the person who wrote it; False if that is refused."""
        place = path("v3", "rooms", room, "redact", event, f"double.{event}")
        try:
            await self._ask(person, leave, "PUT", place, {"reason": "it held a secret"})
        except MatrixError:
            return False
        return True

    async def ignored_by(self, person: UserId, leave: Leave) -> frozenset[str]:
        """Whom the person ignores (client-server API, "Ignoring Users").

        Raises ``HomeserverAway`` when that cannot be asked, ``PermanentFailure`` when the
        homeserver does not say it to us.
        """
        place = path("v3", "user", person, "account_data", "m.ignored_user_list")
        try:
            reply = await self._ask(person, leave, "GET", place)
        except MatrixError as error:
            if error.status == 404:
                return frozenset()
            await self._note_end(person, leave, error)
            raise PermanentFailure(str(error)) from error
        users = reply.get("ignored_users")
        return frozenset(users) if isinstance(users, dict) else frozenset()

    async def _ask(
        self,
        person: UserId,
        leave: Leave,
        method: str,
        place: str,
        content: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        # With a token of theirs we are the person already.
        user = None if leave.token else person
        try:
            return await self._client.request(
                method,
                place,
                user=user,
                query=query,
                content=content,
                token=leave.token,
                timeout=20,
            )
        except MatrixError as error:
            if error.is_of_token and not leave.token:
                # It does not know us at all just now, which says nothing of the person.
                raise HomeserverAway(str(error)) from error
            raise


async def _nobodys(person: UserId) -> Leave | None:
    return None


def _ended(leave: Leave) -> str:
    if leave.token:
        return "the homeserver does not take the token any more; give a new one"
    return "the homeserver does not let me act for you any more"
