"""The core's records, frozen and without I/O, and the clock that everything is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Protocol

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId, InstanceId, LoginId, RemoteChatId, RoomId, UserId
from bridge.sdk.login import LoginKind


class Clock(Protocol):
    """Where every timestamp and day comes from."""

    def now(self) -> datetime:
        """The time in UTC."""
        ...

    def today(self) -> date:
        """The UTC day."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the Clock

    def today(self) -> date:
        """The UTC day."""
        return self.now().date()


class Forgotten(PermanentFailure):
    """The day that it belongs to is over: nothing more can be kept about it."""


class Permission(IntEnum):
    """What a Matrix user may do. Each level includes those below."""

    NONE = 0
    RELAY = 1
    USER = 2
    ADMIN = 3


class RowId(NamedTuple):
    """A journal row: the UTC day it was received, and its number in arrival order."""

    day: date
    seq: int


class ItemId(NamedTuple):
    """One event of a journal row: the row and the place of the event in its ``events``."""

    day: date
    seq: int
    place: int

    def __str__(self) -> str:
        return f"{self.day.isoformat()}.{self.seq}.{self.place}"

    @classmethod
    def read(cls, text: str) -> "ItemId":
        """Read what ``str`` wrote."""
        day, seq, place = text.split(".")
        return cls(date.fromisoformat(day), int(seq), int(place))


class Source(StrEnum):
    """How a journal row came to us."""

    TRANSACTION = "transaction"
    RECONCILE = "reconcile"
    RETRY = "retry"


class Mark(NamedTuple):
    """How far a journal row is, to be made durable."""

    row: RowId
    progress: bytes
    done: bool
    counts: tuple[int, int, int]
    """How many of its events were parked, delivered, dropped: by ``Outcome``."""


@dataclass(slots=True, kw_only=True)
class Transaction:
    """What the homeserver put, parsed once. Lists hold whatever it sent, unchecked."""

    id: str
    body: bytes
    events: list[Any]
    ephemeral: list[Any] = field(default_factory=list)
    to_device: list[Any] = field(default_factory=list)
    has_device_news: bool = False
    """Device lists or key counts are in it."""
    source: Source = Source.TRANSACTION


class ParkReason(StrEnum):
    """Why an item was put aside: a closed set."""

    MALFORMED = "malformed"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    CRASHED = "crashed"
    HUNG = "hung"
    UNCERTAIN = "uncertain"
    TOO_LARGE = "too large"
    NO_KEY = "no key yet"
    KEY_WITHHELD = "key withheld"
    NOT_TRUSTED = "sender not trusted"
    REPLAYED = "replayed"
    DEVICE_LOST = "device lost"


class Outcome(IntEnum):
    """What became of an event, for the books. Of several consumers the lowest counts."""

    PARKED = 0
    DELIVERED = 1
    DROPPED = 2
    """A rule leaves it out: nobody wants it, the portal is paused, it waited too long."""


class Uncertain(StrEnum):
    """What a portal does with a message that may have been sent."""

    RESEND = "resend"
    HOLD = "hold"


class Telling(StrEnum):
    """How a portal tells a sender that a message may be there twice, or was put aside."""

    NOTICE = "notice"
    REACTION = "reaction"


class Follow(StrEnum):
    """How far a room follows its chat, and the chat the room."""

    NOTHING = "nothing"
    TOPIC = "topic"
    ALL = "all"
    """Who may come in, who runs it, and who is put out, too."""


class Announce(StrEnum):
    """When somebody is told of the connection that is made for them."""

    FIRST = "first"
    """Before it is made."""
    BEFORE = "before"
    """And the first message waits until it was read, at most a minute."""


class Members(StrEnum):
    """Which people of a chat have their ghosts in its room."""

    FULL = "full"
    """Everybody; those who have said nothing come in slowly."""
    SPEAKERS = "speakers"
    """Those who have spoken and not left since."""
    NONE = "none"
    """Nobody: the bot says it in their names."""


class Puppets(StrEnum):
    """Whose account speaks for somebody on a network."""

    AUTOMATIC = "automatic"
    """A connection made for each Matrix user."""
    LOGIN = "login"
    """The person's own account there; the relay for those who have linked none."""
    RELAY = "relay"
    """One login speaks for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRules:
    """What the core asks of an instance's settings."""

    permissions: Mapping[str, Permission] = field(default_factory=dict)
    """Levels that hold for this instance instead of the general ones."""
    puppets: Puppets = Puppets.AUTOMATIC
    announce: Announce = Announce.FIRST
    relay_name: str = "{name}"
    """How a relay names those for whom it speaks."""
    announce_direct: bool = False
    """Told in a direct chat, instead of in the room."""
    alias_template: str = ""
    """How its chats are called as aliases (see ``aliasformat``); empty: as our ids are."""
    members: Members = Members.SPEAKERS
    """Whose ghosts are in a room that does not say."""
    privacy: bool = False
    """Nobody reads what a chat says without being seen there, where the room does not say."""
    most_rooms: int = 1000
    """How many of its chats may be bridged, direct chats not counted."""
    alias_rooms_hourly: int = 60
    """How many rooms may be made in an hour for whoever names an alias."""


class AuditAction(StrEnum):
    """What the audit knows of: a closed set."""

    BRIDGE = "bridge"
    UNBRIDGE = "unbridge"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    DROP = "drop"
    PARK = "park"
    SET = "set"
    MOVE = "move"
    """To the room that replaced the portal's."""
    ASK = "ask"
    """Those who run a chat were asked."""
    AGREE = "agree"
    REFUSE = "refuse"
    BLOCK = "block"
    UNBLOCK = "unblock"
    ROTATE = "rotate"
    FORGET = "forget"
    RELOAD = "reload"
    LINK = "link"
    LOGOUT = "logout"
    SUBSCRIBE = "subscribe"
    """To a policy list, which is only looked at."""
    APPLY = "apply"
    UNSUBSCRIBE = "unsubscribe"
    BAN = "ban"
    UNBAN = "unban"
    OPT_OUT = "opt out"
    OPT_IN = "opt in"
    DOUBLE_ON = "double puppet on"
    DOUBLE_OFF = "double puppet off"
    EXPORT = "export"
    """Of what is kept about a person, by an admin."""
    ERASE = "erase"
    """What is kept about a person: begun."""
    ERASED = "erased"
    END_SESSION = "end session"
    """At the web."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """What is noted of a person who had everything erased."""

    begun_at: datetime
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRows:
    """What one table holds about a person."""

    table: str
    what: str
    """What it is there for."""
    how_long: str
    number: int
    stays: str
    """Why it stays when the person has it all erased; empty: it goes."""
    after_erasure: str = ""
    """How long it stays then; empty: as long as now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """A Matrix room tied to one remote chat."""

    id: int
    instance: InstanceId
    chat: RemoteChatId
    chat_name: str
    room: RoomId
    former_rooms: tuple[RoomId, ...] = ()
    receiver: LoginId | None = None
    """The login whose private chat it is; None for chats that all logins share."""
    created_by: UserId | None = None
    paused: bool = False
    uncertain: Uncertain = Uncertain.RESEND
    telling: Telling = Telling.NOTICE
    follow: Follow = Follow.TOPIC
    listed: bool | None = None
    """Those who are not in the chat may know of it; None: the network has not said."""
    open: bool | None = None
    """Anybody may come into the chat."""
    closed: bool = False
    """We closed the room because the chat is closed."""
    quieted: bool = False
    """We let only those speak in the room who are heard in the chat, because it is moderated."""
    shut_out: bool = False
    """The room was told that the relay is out of the chat."""
    puppets: Puppets | None = None
    """Whose account speaks here; None: as the settings have it."""
    relay_name: str | None = None
    """How a relay names people here; None: as the settings have it."""
    relay: LoginId | None = None
    """Whose login is the relay here; None: the instance's own."""
    left_out: ItemId | None = None
    """Up to this item what waited too long is left out."""
    members: Members | None = None
    """Whose ghosts are in the room; None: as the settings have it."""
    privacy: bool | None = None
    """Nobody reads what the chat says without being seen there; None: as the settings have it."""
    blocked: bool = False
    """Somebody reads who is not seen, so that nothing comes in."""


class AskedState(StrEnum):
    """What became of a request to bridge a chat. Of one that was granted nothing is kept."""

    ASKED = "asked"
    UNANSWERED = "unanswered"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Those who run a chat were asked to let it be bridged."""

    instance: InstanceId
    chat: RemoteChatId
    chat_name: str
    room: RoomId
    room_name: str
    """As it was called to them."""
    by: UserId
    state: AskedState = AskedState.ASKED
    at: datetime
    until: datetime
    """An answer counts before that."""
    again_at: datetime
    """They are not asked again before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A portal's room follows a policy list."""

    portal: int
    room: RoomId
    """Where the list stands."""
    by: UserId
    applied: bool = False
    """It is in force, and not only looked at."""
    agreed: bool = False
    """Also where it is about people whom nobody may mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRow:
    """A login as stored, without its credentials."""

    id: LoginId
    instance: InstanceId
    kind: LoginKind
    owner: UserId | None
    name: str = ""
    """PERSON: what the account is called on the network."""
    preferred: bool = False
    """PERSON: it speaks, if its owner has several there."""


class LinkKind(StrEnum):
    """What an event that crossed is, for those that follow it."""

    MESSAGE = "message"
    EDIT = "edit"
    CORRECTION = "correction"
    """Said in words of an edit: it belongs to the message that was changed."""
    REACTION = "reaction"
    REDACTION = "redaction"
    REMARK = "remark"
    """The bot's, of what the chat is: nobody's message, and nothing that is done to it crosses."""


class SendKind(StrEnum):
    """What an outbox entry does in its room."""

    EVENT = "event"
    STATE = "state"
    REDACT = "redact"
    JOIN = "join"
    LEAVE = "leave"
    POWERS = "powers"
    """``content``: the levels of some, the instance whose others have none, and ``speaking``: who
    may say something (``matrix.powers``)."""
    KICK = "kick"
    BAN = "ban"
    UNBAN = "unban"
    LIST = "list"
    """``content``: the instance in whose list of rooms it is to be ``listed``, or not."""


# This and the next are not frozen, though nothing changes them: it would cost four times as much.
@dataclass(slots=True, kw_only=True)
class Outgoing:
    """One thing to do in a Matrix room, as a ghost or a bot. Durable once in the outbox."""

    room: RoomId
    """Also its lane: entries of one room go out in the order they came in."""
    user: UserId
    kind: SendKind
    type: str = ""
    """Event type; for STATE the state key follows in ``state_key``."""
    state_key: str = ""
    content: dict[str, Any]
    transaction_id: str
    """Globally unique over all our users, the same at every attempt."""
    portal: int | None = None
    remote_id: str | None = None
    part: int = 0
    target: str = ""
    """REDACT: the event; KICK, BAN, UNBAN: the user."""
    name: str = ""
    """The ghost's display name as known now; empty for bots."""
    double: str = ""
    """EVENT: the person whose own account says it, where that may be; else ``user`` does."""
    about: str = ""
    """The remote id of the message that it answers, changes or takes back. Which event that is
    is looked up when its turn has come: what was put before it is sent by then."""
    link: LinkKind = LinkKind.MESSAGE
    """EVENT: as what it is remembered."""
    alias: str = ""
    """EVENT: another remote id by which it is found, and others may be, too."""
    replayed: bool = False
    """EVENT: it was said more than a day ago, so that it may have been stored on any day."""
    said_at: int | None = None
    """EVENT: when it was said, in ms since 1970, if it was told late: the time it bears in Matrix.
    Stored, so that it is the same at every attempt."""


@dataclass(slots=True, kw_only=True)
class QueuedOutgoing:
    """An outbox entry with its place in the outbox."""

    day: date
    seq: int
    received_at: datetime
    outgoing: Outgoing
    again: bool = field(default=False, compare=False)
    """It was found in the outbox, so it may have been put into its room before."""


class Sent(NamedTuple):
    """An outbox entry that the homeserver has."""

    queued: QueuedOutgoing
    event_id: EventId | None
    at: datetime


class MessageLink(NamedTuple):
    """One event and the remote message (part) that it is."""

    portal: int
    event_id: EventId
    remote_id: str | None
    part: int
    sender: UserId
    """The ghost or the Matrix user who wrote it."""
    room: RoomId
    """Where it is: in its portal's room, or in one that this has left."""
    kind: LinkKind = LinkKind.MESSAGE
    received_at: datetime | None = None
    laned_at: datetime | None = None
    sent_at: datetime | None = None
    confirmed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One trouble, as the room shows it."""

    key: str
    sentence: str
    since: datetime
    over_at: datetime | None = None
    said: str = ""
    """What stands in the room."""
    revision: int = 0
    """How often that was changed."""
    day: date
    transaction_id: str = ""
    """Of the message that is edited."""
    event_id: EventId | None = None
    seen_by: UserId | None = None
