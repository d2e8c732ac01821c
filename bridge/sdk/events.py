"""The records that pass between a module and its host. Frozen; no I/O."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bridge.sdk.ids import (
    EventId,
    RemoteChatId,
    RemoteMessageId,
    RemoteUserId,
    RoomId,
    UserId,
)
from bridge.sdk.rich import Rich


class MessageKind(StrEnum):
    """How a message is spoken."""

    TEXT = "text"
    EMOTE = "emote"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who wrote in Matrix."""

    user_id: UserId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message from Matrix for a network."""

    chat: RemoteChatId
    event_id: EventId
    sender: Sender
    kind: MessageKind
    body: Rich
    relayed: bool = False
    """The login is not the sender's own: name the sender in the text."""
    reply_to: RemoteMessageId | None = None
    """The network's id of the message answered, if this portal bridged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The network took the message. One remote id per part, where it has ids."""

    remote_ids: tuple[RemoteMessageId, ...] = ()
    sent_at: datetime | None = None
    """When it was written out, where that is known apart from the confirmation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteChat:
    """A chat on the network: its id and the name that people know it by."""

    id: RemoteChatId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteUser:
    """A person on the network: the id and the name as shown now."""

    id: RemoteUserId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteMessage:
    """A message from the network for Matrix."""

    chat: RemoteChatId
    id: RemoteMessageId
    sender: RemoteUser
    kind: MessageKind
    body: Rich
    at: datetime
    part: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJoin:
    """Somebody came into the chat."""

    chat: RemoteChatId
    user: RemoteUser


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLeave:
    """Somebody left the chat (part, quit, kick)."""

    chat: RemoteChatId
    user: RemoteUser
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRename:
    """Somebody changed the name, and with it the id, in the chat."""

    chat: RemoteChatId
    old: RemoteUser
    new: RemoteUser


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteMembers:
    """Everybody who is in the chat now; who is not listed has left."""

    chat: RemoteChatId
    users: tuple[RemoteUser, ...]


RemoteEvent = RemoteMessage | RemoteJoin | RemoteLeave | RemoteRename | RemoteMembers


class Wish(StrEnum):
    """What somebody who runs a chat may ask of us at any time: a closed set."""

    AGREE = "agree"
    """The chat may be bridged as it was asked."""
    REFUSE = "refuse"
    STATUS = "status"
    """Say what is bridged, to where, for whom."""
    LEAVE = "leave"
    """End the bridge."""
    BLOCK = "block"
    """Carry nothing of one person, or of a whole homeserver, into the chat."""
    UNBLOCK = "unblock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeratorWish:
    """Somebody who runs a chat, as the network says at this moment, wants something."""

    chat: RemoteChat
    moderator: RemoteUser
    wish: Wish
    about: str = ""
    """BLOCK, UNBLOCK: a Matrix id, a homeserver's name, or a person as the chat knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRequest:
    """Somebody in Matrix asks to bridge a chat."""

    chat: RemoteChat
    room: str
    """The Matrix room, as people know it."""
    asked_by: UserId
    minutes: int
    """How long an answer counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomMessage:
    """A message in a Matrix room that a bot is in."""

    room: RoomId
    event_id: EventId
    sender: Sender
    kind: MessageKind
    body: Rich
    direct: bool = False
    """The room is the bot's direct chat with the sender."""
