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
class Profile:
    """Whom a sender speaks for, in one message: a relay, a webhook."""

    id: str
    """Tells two of a name apart, for that sender."""
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
    profile: Profile | None = None
    """If the sender, who remains the sender, says it for somebody else."""


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
