"""What a module is, and all that its host gives it."""

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from bridge.sdk.capabilities import Capabilities
from bridge.sdk.events import (
    ConsentRequest,
    Edit,
    Message,
    ModeratorWish,
    Rank,
    Reaction,
    Receipt,
    Redaction,
    RemoteChat,
    RemoteEvent,
    RemoteUser,
    Removal,
    RoomMessage,
    Sender,
    Typing,
)
from bridge.sdk.ids import EventId, InstanceId, RemoteChatId, RemoteUserId, RoomId, UserId
from bridge.sdk.login import Login, LoginFlow, LoginState
from bridge.sdk.metrics import Metric
from bridge.sdk.rich import Rich
from bridge.sdk.secret import Secret
from bridge.sdk.timers import Timers

CORE_KEYS = frozenset({
    "module", "permissions", "puppets", "relay_name", "announce", "announce_in", "privacy",
    "members", "alias_template", "most_rooms", "alias_rooms_hourly",
})  # fmt: skip
"""Keys beside a module's settings in config.yaml that are the core's, not the module's."""


class ModuleState(StrEnum):
    """The closed set of what a module can be. A failure never switches it off for good."""

    STARTING = "starting"
    RUNNING = "running"
    RECONNECTING = "reconnecting"
    STOPPED = "stopped"
    FAILED = "failed"


class Holds(StrEnum):
    """What a stored column or key says about a person."""

    NONE = "none"
    ID = "id"
    CONTENT = "content"
    SECRET = "secret"  # noqa: S105 - a word, not one
    IP = "ip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One kind of thing that a module keeps in its store or in timers."""

    prefix: str
    """Keys that begin with this."""
    holds: Holds
    purpose: str
    keep_for: timedelta | None
    """None: as long as the module is configured."""
    outlasts: timedelta | None = None
    """How long it stays when its ``subject`` has everything erased; None: it goes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """How a module introduces itself."""

    id: str
    name: str
    summary: str
    docs: str = ""
    icon: str = ""
    """Of a network: the content URI of its picture (``mxc://``), which clients show beside it in
    their lists; empty if there is none."""
    removal: str = ""
    """How to get rid of it, in a sentence."""
    keeps: tuple[Kept, ...] = ()
    metrics: tuple[Metric, ...] = ()


class Store(Protocol):
    """A durable map of the instance's own, exported, erased and expired by the core."""

    async def get(self, key: str) -> bytes | None: ...
    async def put(
        self,
        key: str,
        value: bytes,
        *,
        subject: str | None = None,
        room: RoomId | None = None,
        keep_for: timedelta | None = None,
    ) -> None: ...
    async def delete(self, key: str) -> None: ...
    async def find(self, prefix: str) -> Mapping[str, bytes]: ...


class _AnyHost(Protocol):
    """What every module gets of the program that hosts it."""

    @property
    def instance(self) -> InstanceId: ...
    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]: ...
    @property
    def store(self) -> Store: ...

    def now(self) -> datetime:
        """The time, in UTC."""
        ...

    def count(self, name: str, /, **labels: str) -> None:
        """Count one more of a counter declared in ``ModuleInfo.metrics``, with all its labels.

        Raises ``ValueError`` for what is not declared.
        """
        ...

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add a value to a declared histogram. Raises ``ValueError`` for what is not declared."""
        ...


class Host(_AnyHost, Protocol):
    """All that a connector's client gets of the program that hosts it."""

    async def receive(self, event: RemoteEvent) -> None:
        """Take an event from the network. Returns when it is stored and cannot be lost.

        Waits while the database is away, so that what comes next does not overtake it. Raises
        ``PermanentFailure`` for what can never be stored, and for what is said to one person alone
        while the homeserver does not make the room for it. ``RemoteTyping`` alone is not stored.
        """
        ...

    def report(self, state: LoginState, reason: str = "") -> None:
        """Say how this client's login is, with a sentence."""
        ...

    async def identify(self, account: RemoteUserId) -> None:
        """Say which account on the network this login is.

        What that account writes elsewhere, its owner's own Matrix account may say then. So only
        for an id that nobody else can take: an account's, never a nick that happens to be free.
        Waits while the database is away.
        """
        ...

    async def keep_secret(self, name: str, secret: Secret | None) -> None:
        """Keep something beside what this login signs in with; None: forget it.

        It lies in the vault until the login ends, and stands among ``Login.secrets`` from the
        next start on, in place of what has the same name. Raises ``TemporaryFailure`` when the
        database is away.
        """
        ...

    async def opt_out(self, user: RemoteUserId, *, is_out: bool = True) -> None:
        """Say that a person on the network does not want to be bridged, or does again.

        Holds for all chats of this instance from now on. Waits while the database is away.
        """
        ...

    def has_opted_out(self, user: RemoteUserId) -> bool:
        """Whether ``opt_out`` holds for a person, as told from any login of this instance.

        The core itself asks it of whoever does or says something, and of ``RemoteUser.account``.
        """
        ...

    async def obey(self, wish: ModeratorWish) -> str:
        """Do what somebody who runs a chat wishes; give the answer, for that person alone.

        That the person runs the chat is the module's word, so ask the network at that moment. It
        is done, and said in the chat and in the room, when this returns. The answer may have
        several lines. Raises a ``DeliveryError`` with a sentence for the person.
        """
        ...


class Client(Protocol):
    """One login's live connection."""

    async def run(self) -> None:
        """Stay connected until cancelled; raise a ``ModuleError`` to explain an early end.

        Reconnecting is the host's work: raise ``ModuleNotReady`` and be started again.
        """
        ...

    async def send(self, message: Message) -> Receipt:
        """Bring one message to the network, waiting for the connection if need be.

        Raises a ``DeliveryError``. Called for one message at a time per chat. Cancelled at
        the host's deadline.
        """
        ...


class Connector(Protocol):
    """One configured network. Made once per instance with its checked settings.

    Of the fields of ``settings``, ``trestle init`` asks for those that are required and those
    with ``json_schema_extra={"ask": True}``.
    """

    info: ClassVar[ModuleInfo]
    settings: ClassVar[type[BaseModel]]

    def __init__(self, settings: BaseModel) -> None: ...
    def login_flows(self) -> Sequence[LoginFlow]: ...
    def capabilities(self, chat: RemoteChatId) -> Capabilities: ...
    def connect(self, login: Login, host: Host) -> Client: ...


@runtime_checkable
class SendsEdits(Protocol):
    """A client of a network on which a message can be changed.

    Used where the connector's ``Capabilities.edits`` are above ``FALLBACK``; the same holds for
    the next two. Each returns as ``send`` does, or None for what is left out without a word, and
    raises a ``DeliveryError``. ``Unsupported`` means that nothing was sent; where the level is
    ``PARTIAL``, the core says it in plain text then.
    """

    async def send_edit(self, edit: Edit) -> Receipt | None: ...


@runtime_checkable
class SendsReactions(Protocol):
    """A client of a network that has reactions.

    The receipt's remote id is the reaction's own: a ``Redaction`` takes it back by it.
    """

    async def send_reaction(self, reaction: Reaction) -> Receipt | None: ...


@runtime_checkable
class SendsRedactions(Protocol):
    """A client of a network on which a message can be taken back."""

    async def send_redaction(self, redaction: Redaction) -> Receipt | None: ...


@runtime_checkable
class SendsTyping(Protocol):
    """A client that can show that its owner is writing."""

    async def send_typing(self, typing: Typing) -> None:
        """Show it at once or not at all: never wait for a connection. Called only while the
        login is connected, where ``Capabilities.typing`` is above ``FALLBACK``."""
        ...


@runtime_checkable
class StopsSending(Protocol):
    """A client that says long messages in pieces, and can leave out the rest."""

    def stop_sending(self, event_id: EventId) -> bool:
        """Say no more of a message that is being sent: ``send`` returns soon, as if it were whole.

        Gives whether there was more of it to say.
        """
        ...


@runtime_checkable
class JoinsChats(Protocol):
    """A client that must be in a chat to hear it."""

    async def join(self, chat: RemoteChat) -> None:
        """Be in the chat from now on, over reconnects too.

        Returns when the network has let us in. Raises ``PermanentFailure`` with the network's
        reason (no such channel, banned, invite only), ``TemporaryFailure`` when not connected, or
        where nobody is let in for now: the host asks again, and the client does not.
        """
        ...

    async def leave(self, chat: RemoteChat, reason: str) -> None: ...


@runtime_checkable
class SeesPeople(Protocol):
    """The relay's client on a network where everybody sees who is in a chat."""

    def seen(self, chat: RemoteChatId) -> Collection[UserId] | None:
        """The Matrix users who are seen in the chat, each by a connection or account of their
        own, as last read. Anyone who may be gone is left out. None: not known just now."""
        ...


@runtime_checkable
class ManagesChats(Protocol):
    """A client that can change a chat, with the rights that its login has there.

    Each returns when the network has done it, also if it was so before. Raises
    ``PermanentFailure`` with the network's reason (no such right, nobody of that name),
    ``TemporaryFailure`` when not connected. A person is one of the network, or a Matrix user, who
    is then the connection that they have there.
    """

    async def set_topic(self, chat: RemoteChat, topic: str) -> None: ...

    async def set_rank(
        self, chat: RemoteChat, person: RemoteUserId | UserId, rank: Rank
    ) -> None: ...

    async def remove(
        self, chat: RemoteChat, person: RemoteUserId | UserId, how: Removal, reason: str
    ) -> None: ...


@runtime_checkable
class BansChats(Protocol):
    """A client that can keep people out of a chat whether they are there or not.

    By patterns of their ids, in which ``*`` is any text and ``?`` any one character. Raises as
    ``ManagesChats`` does.
    """

    async def find_bans(self, chat: RemoteChat, patterns: Sequence[str]) -> Sequence[str]:
        """Those of the patterns that are banned now, by whomever."""
        ...

    async def change_bans(self, chat: RemoteChat, add: Sequence[str], lift: Sequence[str]) -> None:
        """Ban some patterns and lift others; raise if one cannot be banned.

        A pattern that fits nobody's id, or our own connections, is left out.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What the third-party lookups of the appservice API say about a network."""

    protocol: str
    chat_field: str
    user_field: str
    patterns: Mapping[str, tuple[str, str]]
    """Field name to (regular expression, placeholder)."""


@runtime_checkable
class FindsChats(Protocol):
    """A connector that can read what a person types as a chat or a person."""

    @property
    def directory(self) -> Directory: ...

    async def find_chat(self, text: str) -> RemoteChat:
        """Read a chat's name. Raises ``PermanentFailure`` with what is wrong with it, or
        ``TemporaryFailure`` if the network must be asked and is not there."""
        ...

    async def find_user(self, text: str) -> RemoteUser: ...


@runtime_checkable
class HasDirectChats(Protocol):
    """A connector of a network on which a login can talk with one person alone.

    Such a chat belongs to the login, and its id is the person's. Its messages come with
    ``RemoteMessage.direct``; what the login's owner says goes to ``Client.send``, never to another
    login's. ``Host.receive`` raises ``PermanentFailure`` for a direct message that is not wanted.
    """

    def direct_chat(self, user: RemoteUser) -> RemoteChat:
        """The chat with the person."""
        ...


@runtime_checkable
class WatchesDirectChats(Protocol):
    """A client that can tell, by ``RemoteRemark``, whether the other person in a chat is there."""

    def watch_chats(self, chats: Sequence[RemoteChat]) -> None:
        """The login's direct chats, the newest last: before it runs, and at each change. The relay
        is given those that are shared, before it runs."""
        ...


@runtime_checkable
class NamesPuppets(Protocol):
    """A connector that can say what a login would be called, before it is made."""

    async def foretell_name(self, owner: UserId, name: str) -> str:
        """The name that an automatic login of the Matrix user, who is called ``name``, would have.

        Empty as long as it is not known. It stores and connects nothing: people are told before.
        """
        ...


@runtime_checkable
class NeedsConsent(Protocol):
    """A connector whose chats belong to others, who must agree before they are bridged."""

    def needs_consent(self, chat: RemoteChat) -> bool:
        """Whether those who run the chat must be asked. Only the admin's settings may waive it."""
        ...


@runtime_checkable
class AsksModerators(Protocol):
    """A client that can ask those who run a chat. Their answers go to ``Host.obey``."""

    async def ask(self, request: ConsentRequest) -> Sequence[RemoteUser]:
        """Ask each of those who are there, privately, and say how to answer; give whom.

        Raises ``PermanentFailure`` if there is nobody to ask, ``TemporaryFailure`` when not
        connected.
        """
        ...


class Call(Protocol):
    """A command that somebody gave a bot."""

    @property
    def room(self) -> RoomId: ...
    @property
    def sender(self) -> Sender: ...
    @property
    def text(self) -> str:
        """What follows the command's name."""
        ...

    @property
    def random(self) -> random.Random:
        """Chance, seeded by the item: the same when the item runs twice."""
        ...

    async def reply(self, answer: str | Rich) -> None:
        """Say it in the room as a notice. Sent once, though the item may run twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing that a bot does on a word."""

    name: str
    usage: str
    help: str
    run: Callable[[Call], Awaitable[None]] = field(repr=False)


def help_of(info: ModuleInfo, commands: Iterable[Command]) -> str:
    """What a bot answers to ``!help``: what it is for, and each of its commands."""
    lines = [f"{info.name}: {info.summary}", *(f"!{one.usage} — {one.help}" for one in commands)]
    return "\n".join(lines)


class BotHost(_AnyHost, Protocol):
    """All that a bot gets of the program that hosts it."""

    @property
    def timers(self) -> Timers: ...


class Bot(Protocol):
    """A module that talks in rooms, with no network behind it."""

    info: ClassVar[ModuleInfo]
    settings: ClassVar[type[BaseModel]]

    def __init__(self, settings: BaseModel, host: BotHost) -> None: ...

    @property
    def commands(self) -> Sequence[Command]:
        """What it does on ``!name``, in rooms that it was invited into."""
        ...


@runtime_checkable
class HearsMessages(Protocol):
    """A bot that wants every message of its rooms, not only commands."""

    async def on_message(self, message: RoomMessage, call: Call) -> None:
        """Returning is the acknowledgement."""
        ...
