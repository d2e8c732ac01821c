"""Records as the host hands them in, with what a test does not care about filled in."""

from bridge.sdk.events import Message, MessageKind, Sender
from bridge.sdk.ids import EventId, LoginId, RemoteChatId, UserId
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.rich import Rich
from bridge.sdk.secret import Secret


def make_login(kind: LoginKind = LoginKind.RELAY, number: int = 1, **secrets: str) -> Login:
    """Make a login: the instance's own, or Alice's. ``secrets`` are what she signs in with."""
    is_relay = kind is LoginKind.RELAY
    return Login(
        id=LoginId(number),
        kind=kind,
        owner=None if is_relay else UserId("@alice:example.org"),
        name="test" if is_relay else "Alice",
        secrets={name: Secret(value) for name, value in secrets.items()},
    )


def make_message(
    body: str | Rich,
    *,
    chat: str = "#trestle",
    sender: str = "@alice:example.org",
    kind: MessageKind = MessageKind.TEXT,
    event_id: str = "$event",
    relayed: bool = False,
) -> Message:
    """Make a message from Matrix, of which the sender is called like the Matrix id."""
    return Message(
        chat=RemoteChatId(chat),
        event_id=EventId(event_id),
        sender=Sender(user_id=UserId(sender), name=name_of(sender)),
        kind=kind,
        body=Rich.plain(body) if isinstance(body, str) else body,
        relayed=relayed,
    )


def name_of(user_id: str) -> str:
    """``Alice`` for ``@alice:example.org``."""
    return user_id[1:].partition(":")[0].capitalize()
