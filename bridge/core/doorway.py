"""One portal at work: messages from its Matrix room to the remote chat, and back."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bridge.core.instances import Instance, Session
from bridge.core.lane import Item
from bridge.core.outgoing import KeyOf, notice, once, transaction_id
from bridge.core.permissions import Permissions
from bridge.core.progress import Marker
from bridge.core.router import Router
from bridge.core.sender import Sender
from bridge.matrix.html import content_for, parse
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.model import (
    AuditAction,
    MessageLink,
    Outgoing,
    ParkReason,
    Permission,
    Portal,
    SendKind,
)
from bridge.sdk.capabilities import Level
from bridge.sdk.errors import PermanentFailure, TemporaryFailure, Unsupported
from bridge.sdk.events import (
    Message,
    MessageKind,
    RemoteChat,
    RemoteEvent,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRename,
    RemoteUser,
)
from bridge.sdk.events import (
    Sender as Person,
)
from bridge.sdk.ids import (
    EventId,
    InstanceId,
    LoginId,
    RemoteChatId,
    RemoteMessageId,
    RoomId,
    UserId,
)
from bridge.sdk.login import LoginState
from bridge.sdk.module import JoinsChats
from bridge.sdk.rich import Rich, Text
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_KINDS = {"m.text": MessageKind.TEXT, "m.emote": MessageKind.EMOTE, "m.notice": MessageKind.NOTICE}
_LOOP_SECONDS = 5.0
_LOOP_EQUAL = 5
"""So many equal texts of ghosts within so many seconds are a loop of bridges."""


class Store(Protocol):
    """The part of the storage that keeps portals and what crossed them."""

    async def all(self) -> Sequence[Portal]: ...
    async def add(
        self,
        *,
        instance: InstanceId,
        chat: RemoteChatId,
        chat_name: str,
        room: RoomId,
        receiver: LoginId | None = None,
        created_by: UserId | None = None,
    ) -> Portal: ...
    async def remove(self, portal_id: int) -> None: ...
    async def set_paused(self, portal_id: int, paused: bool) -> None: ...
    async def find_message(self, portal_id: int, event_id: EventId) -> Sequence[MessageLink]: ...
    async def add_links(self, links: Sequence[MessageLink]) -> None: ...


class Audit(Protocol):
    """The part of the storage that keeps who changed what."""

    async def record(
        self, *, actor: UserId, action: AuditAction, target: str, subject: UserId | None = None
    ) -> int: ...


@dataclass(slots=True, kw_only=True)
class House:
    """What portals share: the parts of the program that they work with."""

    store: Store
    audit: Audit
    sender: Sender
    intents: Intents
    namespaces: Namespaces
    permissions: Permissions
    instances: Mapping[InstanceId, Instance]
    router: Router
    marker: Marker
    telemetry: Telemetry
    key_of: KeyOf
    deadline: float = 120.0
    """Seconds that a module has for one message."""


class Doorway:
    """One portal at work: the consumer of its lane, and the entry for what comes back."""

    def __init__(self, portal: Portal, house: House) -> None:
        self.portal = portal
        self.name = f"portal:{portal.id}"
        self.deadline = house.deadline
        self._house = house
        self._present: set[UserId] | None = None
        self._unmarked = False
        self._loop_watch: deque[tuple[float, int]] = deque(maxlen=64)
        self._told: set[UserId] = set()

    @property
    def chat(self) -> RemoteChat:
        """The remote chat."""
        return RemoteChat(id=self.portal.chat, name=self.portal.chat_name)

    # --- Matrix to the network ---

    async def handle(self, item: Item) -> None:
        """Bring one Matrix event to the network. Raises a ``DeliveryError``."""
        event = item.event
        if self.portal.paused:
            return
        if event["type"] == "m.room.member":
            await self._follow_member(event)
            return
        message = await self._message(event)
        if message is None:
            self._house.telemetry.sends.labels(direction="to_network", outcome="dropped").inc()
            return
        session, message = await self._speaker(message)
        capabilities = self._instance.connector.capabilities(self.portal.chat)
        if self._unmarked and not capabilities.acknowledges:
            await self._house.marker.settle()
        if item.again:
            await self._say(
                item, "again", "After an interruption your message was sent to "
                f"{self.portal.instance} once more; it may be there twice.",
            )  # fmt: skip
        receipt = await session.client.send(message)
        item.delivered()
        self._unmarked = True
        await self._note_sent(item, receipt.remote_ids)

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Tell the sender in the room that the message did not get across, and why."""
        telemetry = self._house.telemetry
        outcome = "uncertain" if reason is ParkReason.UNCERTAIN else "parked"
        telemetry.sends.labels(direction="to_network", outcome=outcome).inc()
        if item.event["type"] == "m.room.member":
            return
        way = "may not have reached" if reason is ParkReason.UNCERTAIN else "did not reach"
        await self._say(
            item, "parked", f"Your message {way} {self.portal.chat_name} on "
            f"{self.portal.instance}: {detail.rstrip('.')}.",
        )  # fmt: skip

    @property
    def _instance(self) -> Instance:
        instance = self._house.instances.get(self.portal.instance)
        if instance is None:
            raise PermanentFailure(f"{self.portal.instance} is not switched on in the settings")
        return instance

    async def _message(self, event: dict[str, Any]) -> Message | None:
        """Read the event as a message; None for what is left out by rule."""
        content = event["content"]
        kind = _KINDS.get(str(content.get("msgtype")))
        if event["type"] != "m.room.message":
            return None  # Stickers, reactions and redactions have no likeness yet.
        if kind is None:
            raise Unsupported(
                f"pictures, files and the like do not cross to {self.portal.instance} yet; "
                "a link to them would"
            )
        if self._is_bot_talk(event, content):
            return None
        relates = content.get("m.relates_to")
        relates = relates if isinstance(relates, dict) else {}
        prefix = ""
        if relates.get("rel_type") == "m.replace":
            new = content.get("m.new_content")
            if not isinstance(new, dict) or not await self._wrote(event, relates.get("event_id")):
                return None
            content, prefix = new, "* "
        body = parse(content)
        reply_to, answered = await self._answered(relates.get("m.in_reply_to"))
        prefix = f"{answered}: " if answered else prefix
        if prefix:
            body = Rich((Text(prefix), *body.nodes))
        if not body.nodes:
            return None
        sender = UserId(event["sender"])
        name = await self._house.intents.display_name(sender, self.portal.room)
        return Message(
            chat=self.portal.chat,
            event_id=EventId(event["event_id"]),
            sender=Person(user_id=sender, name=name),
            kind=kind,
            body=body,
            reply_to=reply_to,
        )

    def _is_bot_talk(self, event: dict[str, Any], content: dict[str, Any]) -> bool:
        """Whether it is a command to us, or a ghost of another network caught in a loop."""
        body = content.get("body")
        text = body if isinstance(body, str) else ""
        if text.startswith("!trestle"):
            return True
        if not self._house.namespaces.is_ghost(event["sender"]):
            return False
        now = asyncio.get_running_loop().time()
        mark = hash(" ".join(text.split()).casefold())
        self._loop_watch.append((now, mark))
        equal = sum(m == mark and now - at < _LOOP_SECONDS for at, m in self._loop_watch)
        return equal >= _LOOP_EQUAL

    async def _wrote(self, event: dict[str, Any], target: object) -> bool:
        """Whether the sender of the edit wrote the event that it edits, here."""
        if not isinstance(target, str):
            return False
        links = await self._house.store.find_message(self.portal.id, EventId(target))
        return any(link.sender == event["sender"] for link in links)

    async def _answered(self, target: object) -> tuple[RemoteMessageId | None, str]:
        """The remote id and the author of the message answered, if this portal bridged it."""
        event_id = target.get("event_id") if isinstance(target, dict) else None
        if not isinstance(event_id, str):
            return None, ""
        links = await self._house.store.find_message(self.portal.id, EventId(event_id))
        if not links:
            return None, ""
        link = links[0]
        name = await self._house.intents.display_name(link.sender, self.portal.room)
        remote = RemoteMessageId(link.remote_id) if link.remote_id else None
        level = self._instance.connector.capabilities(self.portal.chat).replies
        return remote, name if level <= Level.FALLBACK else ""

    async def _speaker(self, message: Message) -> tuple[Session, Message]:
        """Choose the login that speaks for the sender."""
        house, instance, sender = self._house, self._instance, message.sender.user_id
        from_ghost = house.namespaces.is_ghost(sender)
        level = house.permissions.of(sender)
        if not from_ghost and level < Permission.RELAY:
            raise PermanentFailure(
                f"the settings of this bridge do not let {sender} speak on {instance.name}"
            )
        puppets = instance.connector.capabilities(self.portal.chat).puppets
        if puppets and level >= Permission.USER and not from_ghost:
            session = await instance.session_of(sender, message.sender.name)
        elif instance.relay is not None:
            session = instance.relay
            message = replace(message, relayed=True)
        else:
            raise TemporaryFailure(f"{instance.name} is starting", retry_after=0.5)
        supervisor = session.supervisor
        if supervisor.state is LoginState.SIGN_IN_NEEDED and not supervisor.has_rested:
            raise PermanentFailure(f"{instance.name} refused the login: {supervisor.reason}")
        if not supervisor.connected.is_set():
            supervisor.wake()
        return session, message

    async def _note_sent(self, item: Item, remote_ids: Sequence[RemoteMessageId]) -> None:
        telemetry = self._house.telemetry
        telemetry.sends.labels(direction="to_network", outcome="sent").inc()
        seconds = asyncio.get_running_loop().time() - item.row.landed_at
        telemetry.end_to_end_seconds.labels(direction="to_network").observe(seconds)
        event = item.event
        ids: Sequence[RemoteMessageId | None] = remote_ids or (None,)
        links = [
            MessageLink(
                portal=self.portal.id,
                event_id=EventId(event["event_id"]),
                remote_id=remote_id,
                part=part,
                sender=UserId(event["sender"]),
            )
            for part, remote_id in enumerate(ids)
        ]
        await self._house.store.add_links(links)

    async def _follow_member(self, event: dict[str, Any]) -> None:
        """A Matrix user who leaves the room leaves the chat."""
        if event["content"].get("membership") not in {"leave", "ban"}:
            return
        instance = self._house.instances.get(self.portal.instance)
        user = event.get("state_key")
        session = instance.find_session(UserId(str(user))) if instance else None
        if session is not None and isinstance(session.client, JoinsChats):
            await session.client.leave(self.chat, "left the room")

    async def _say(self, item: Item, why: str, text: str) -> None:
        house = self._house
        source = (item.id, self.name, why)
        await house.sender.put([
            notice(house.key_of, room=self.portal.room, user=house.namespaces.bot, text=text,
                   source=source, reply_to=item.event["event_id"]),
        ])  # fmt: skip

    # --- the network to Matrix ---

    async def receive(self, event: RemoteEvent) -> None:
        """Bring one event of the network into the room; returns when it is in the outbox."""
        if self.portal.paused:
            self._house.telemetry.sends.labels(direction="to_matrix", outcome="dropped").inc()
            return
        match event:
            case RemoteMessage():
                await self._receive_message(event)
            case RemoteJoin():
                await self._ghosts(arrive=[event.user])
            case RemoteLeave():
                await self._ghosts(leave=[event.user], reason=event.reason)
            case RemoteRename():
                present = await self.present()
                arrive = [event.new] if self._ghost(event.old) in present else []
                if event.old.id != event.new.id:
                    reason = f"is now known as {event.new.name}"
                    await self._ghosts(leave=[event.old], arrive=arrive, reason=reason)
            case RemoteMembers():
                await self._match_members(event)

    async def present(self) -> set[UserId]:
        """Our ghosts of this portal's instance that are in the room."""
        if self._present is None:
            members = await self._house.intents.joined_members(self.portal.room)
            parse_ghost = self._house.namespaces.parse_ghost
            self._present = {
                UserId(user)
                for user in members
                if (ghost := parse_ghost(user)) and ghost[0] == self.portal.instance
            }
        return self._present

    def _ghost(self, user: RemoteUser) -> UserId:
        return self._house.namespaces.ghost(self.portal.instance, user.id)

    async def _receive_message(self, event: RemoteMessage) -> None:
        ghost = self._ghost(event.sender)
        outgoing = [
            Outgoing(
                room=self.portal.room,
                user=ghost,
                kind=SendKind.EVENT,
                type="m.room.message",
                content=content,
                transaction_id=transaction_id(
                    self._house.key_of,
                    "message",
                    self.portal.id,
                    event.id,
                    event.part,
                    piece,
                    ghost,
                ),
                portal=self.portal.id,
                remote_id=event.id,
                part=event.part + piece,
                name=event.sender.name,
            )
            for piece, content in enumerate(content_for(event.body, event.kind))
        ]
        await self._house.sender.put(outgoing)
        if self._present is not None:
            self._present.add(ghost)

    async def _ghosts(
        self,
        *,
        leave: Sequence[RemoteUser] = (),
        arrive: Sequence[RemoteUser] = (),
        reason: str = "",
    ) -> None:
        """Have ghosts leave or come; those already so are left alone."""
        present = await self.present()
        gone = {g: user for user in leave if (g := self._ghost(user)) in present}
        stay = present - gone.keys()
        come = {g: user for user in arrive if (g := self._ghost(user)) not in stay}
        await self._house.sender.put([
            *(self._membership(g, user, SendKind.LEAVE, reason) for g, user in gone.items()),
            *(self._membership(g, user, SendKind.JOIN, "") for g, user in come.items()),
        ])  # fmt: skip
        # Only now: what could not be stored comes again, and must not find itself done.
        present.difference_update(gone)
        present.update(come)

    async def _match_members(self, event: RemoteMembers) -> None:
        present = await self.present()
        wanted = {self._ghost(user): user for user in event.users}
        gone = present - wanted.keys()
        outgoing = [
            Outgoing(
                room=self.portal.room, user=ghost, kind=SendKind.LEAVE, content={},
                transaction_id=once(), portal=self.portal.id,
            )
            for ghost in sorted(gone)
        ]  # fmt: skip
        await self._house.sender.put(outgoing)
        present -= gone
        await self._ghosts(arrive=list(wanted.values()))

    def _membership(
        self, ghost: UserId, user: RemoteUser, kind: SendKind, reason: str
    ) -> Outgoing:
        return Outgoing(
            room=self.portal.room, user=ghost, kind=kind,
            content={"reason": reason} if reason else {},
            transaction_id=once(), portal=self.portal.id, name=user.name,
        )  # fmt: skip
