"""The records that pass between a module and its host. Frozen; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

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
    avatar: str | None = None
    """A link to the person's picture, good for some days: in what a relay says, on a network
    whose capabilities say ``avatars``, where the bridge has a public address."""


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
class Edit:
    """A message from Matrix was changed by who wrote it."""

    chat: RemoteChatId
    event_id: EventId
    sender: Sender
    targets: tuple[RemoteMessageId, ...]
    """The network's ids of the message as it was first said, one for each part."""
    kind: MessageKind
    body: Rich
    """All of it, as it is now."""
    relayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Somebody in Matrix reacted to a message."""

    chat: RemoteChatId
    event_id: EventId
    sender: Sender
    target: RemoteMessageId
    key: str
    """An emoji as a rule; any short text may come."""
    relayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """A message, or a reaction, was taken back in Matrix, by its author or by a moderator."""

    chat: RemoteChatId
    event_id: EventId
    sender: Sender
    targets: tuple[RemoteMessageId, ...]
    """What the ``Receipt`` of the message or reaction said."""
    reason: str = ""
    is_own: bool = True
    """The sender is who wrote it."""
    relayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """Somebody in Matrix began to write, or ceased to. Matrix says it once, not all the time."""

    chat: RemoteChatId
    sender: Sender
    is_typing: bool


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
    account: RemoteUserId | None = None
    """The account that the person is signed in to, where an id is not one: where anybody may take
    a name that is free. As the network itself says, and an id that no person can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Whom a sender speaks for, in one message: a relay, a webhook."""

    id: str
    """Tells people of the same name apart, among those for whom that sender speaks."""
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
    """When it was said there, however late it came (``late``)."""
    part: int = 0
    reply_to: RemoteMessageId | None = None
    """The message answered, of either side."""
    profile: Profile | None = None
    """If the sender, who remains the sender, says it for somebody else."""
    direct: bool = False
    """Said to this login alone: the chat is the one with the sender, and has the sender's id. The
    core makes a room for it if there is none, or refuses it."""
    late: bool = False
    """Said before and told only now, as by a network that tells what was missed: unless it was
    said more than a week ago, it bears in Matrix the time at which it was said (``at``), where the
    homeserver lets us say it. Do not conclude it from ``at``: a network's clock may be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEdit:
    """Somebody on the network changed what they had said."""

    chat: RemoteChatId
    id: RemoteMessageId
    """The edit's own, so that it appears once."""
    target: RemoteMessageId
    """The message as it was first said."""
    sender: RemoteUser
    kind: MessageKind
    body: Rich
    """All of it, as it is now."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReaction:
    """Somebody on the network reacted to a message of either side."""

    chat: RemoteChatId
    id: RemoteMessageId
    """The reaction's own, by which it is taken back."""
    target: RemoteMessageId
    sender: RemoteUser
    key: str
    alias: RemoteMessageId | None = None
    """Another id by which it is taken back. Where a network has no id for that, make one of the
    target, the person and the key: of several reactions that go by it the newest is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRedaction:
    """A message or a reaction was taken back on the network."""

    chat: RemoteChatId
    target: RemoteMessageId
    sender: RemoteUser
    """Who took it back: the author, or somebody with power there."""
    reason: str = ""
    id: RemoteMessageId | None = None
    """Its own, so that it is done once. Needed where the target is an ``alias``: what goes by it
    may be taken back, and be there again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTyping:
    """Somebody on the network is writing, or ceased to. Best effort, kept nowhere."""

    chat: RemoteChatId
    user: RemoteUser
    is_typing: bool
    seconds: float = 10.0
    """How long that holds unless it is said again."""


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
    """Somebody changed the name, and with it the id, in the chat.

    In a direct chat it is the chat's id, too: ``chat`` is what it was.
    """

    chat: RemoteChatId
    old: RemoteUser
    new: RemoteUser


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteMembers:
    """Everybody who is in the chat now; anyone not listed has left."""

    chat: RemoteChatId
    users: tuple[RemoteUser, ...]


class Rank(IntEnum):
    """What somebody may do in a chat, the least first."""

    NONE = 0
    VOICED = 1
    """May speak where others may not."""
    HELPER = 2
    """May keep order, with limits."""
    MODERATOR = 3
    OWNER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTopic:
    """What the chat is about, empty for nothing. Not what one of ours set."""

    chat: RemoteChatId
    topic: str
    is_news: bool = True
    """It was set just now, and is not only what we find when we come in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAccess:
    """Who sees the chat, who may come in and who is heard. Told when we come in and at each
    change."""

    chat: RemoteChatId
    listed: bool
    """Those who are not in it may know of it."""
    open: bool
    """Anybody may come in: no invitation and no password is needed."""
    moderated: bool = False
    """Only those who have a rank are heard."""
    relay_heard: bool = True
    """The relay is heard, though the chat may be moderated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRanks:
    """What people may do in the chat: those of the network, and our own by their connections."""

    chat: RemoteChatId
    ranks: Mapping[RemoteUserId, Rank]
    """Of people of the network."""
    own: Mapping[UserId, Rank] = field(default_factory=dict)
    """Of people in Matrix, by whose connection they have it."""
    is_all: bool = False
    """Anyone not named has none."""


class Removal(StrEnum):
    """How somebody is put out of a chat."""

    KICK = "kick"
    BAN = "ban"
    UNBAN = "unban"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRemoval:
    """Somebody who runs the chat put one of our own people out of it, or lets them in again."""

    chat: RemoteChatId
    user: UserId
    """Whose connection it was."""
    by: RemoteUser | None
    """None: it was done while nobody of us was there."""
    how: Removal
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteShutOut:
    """The client that listens is out of a chat in which it is to be, and does not come back by
    itself; or it has come in. The core tells the room of the one and, if it did, of the other."""

    chat: RemoteChatId
    reason: str = ""
    """What keeps it out, in a sentence; empty: nothing, it is there.

    The room is told to bridge the chat again once that is over, unless this says already what to
    say (``as_typed``) to bridge another instead.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRemark:
    """What a person in Matrix should know of a chat, and nobody on the network has said.

    The bridge's bot says it in the chat's room; where there is none, it is left out.
    """

    chat: RemoteChatId
    id: RemoteMessageId
    """Its own, so that it is said once."""
    text: str
    people: tuple[RemoteUser, ...] = ()
    """Whom it names: it is left out if one of them does not want to be bridged."""


RemoteEvent = (
    RemoteMessage
    | RemoteEdit
    | RemoteReaction
    | RemoteRedaction
    | RemoteTyping
    | RemoteJoin
    | RemoteLeave
    | RemoteRename
    | RemoteMembers
    | RemoteTopic
    | RemoteAccess
    | RemoteRanks
    | RemoteRemoval
    | RemoteShutOut
    | RemoteRemark
)


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
    person: UserId | None = None
    """BLOCK, UNBLOCK: whose own connection goes by that name, if it is not a homeserver's."""


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
