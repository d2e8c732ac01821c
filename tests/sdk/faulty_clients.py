"""Clients that break one rule each, with the words by which their author is told."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field, SecretStr

from bridge.sdk import (
    Ask,
    Capabilities,
    DeliveryError,
    Host,
    Level,
    Login,
    LoginFlow,
    LoginState,
    Message,
    MessageKind,
    ModuleError,
    ModuleNotReady,
    PermanentFailure,
    Reaction,
    Receipt,
    Redaction,
    RemoteChat,
    RemoteChatId,
    RemoteMessage,
    RemoteMessageId,
    Rich,
    TemporaryFailure,
    UserId,
)
from bridge.sdk import (
    Field as Field_,
)
from tests.sdk.faulty_connectors import Fault, Scripted, connector
from tests.tutorial.echo_bridge import ECHO, EchoClient, EchoConnector, EchoSettings


def client(**changes: Any) -> type:
    """The tutorial's connector with a client of which something is changed."""
    made = type("FaultyClient", (EchoClient,), changes)

    def connect(self: EchoConnector, login: Login, host: Host) -> EchoClient:
        found: EchoClient = made(self._settings, host)
        return found

    return type("Faulty", (EchoConnector,), {"connect": connect})


LEFT: list[asyncio.Task[None] | socket.socket] = []
"""What was left behind, for the test to clean up."""


async def run_and_return(self: EchoClient) -> None:
    """End without a word."""


async def run_into_error(self: EchoClient) -> None:
    """Let a foreign error out."""
    await asyncio.open_connection("127.0.0.1", 9)


async def run_vaguely(self: EchoClient) -> None:
    """Raise the family, not a member."""
    raise ModuleError("something")


async def run_in_silence(self: EchoClient) -> None:
    """Say no reason."""
    raise ModuleNotReady("")


async def run_as_cancelled(self: EchoClient) -> None:
    """Cancel itself."""
    raise asyncio.CancelledError


async def run_and_eat(self: EchoClient) -> None:
    """Take the cancellation for an end."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def run_and_translate(self: EchoClient) -> None:
    """Make another error of the cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ModuleNotReady("stopped") from None


async def run_on(self: EchoClient) -> None:
    """Go on for longer than the host waits, though cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.sleep(6)


async def run_and_leave_a_task(self: EchoClient) -> None:
    """Leave something running."""
    LEFT.append(asyncio.get_running_loop().create_task(linger()))
    await asyncio.Event().wait()


async def linger() -> None:
    """Go on."""
    await asyncio.Event().wait()


async def run_and_leave_a_socket(self: EchoClient) -> None:
    """Leave a socket open."""
    LEFT.append(socket.socket())
    await asyncio.Event().wait()


async def run_and_block(self: EchoClient) -> None:
    """Keep everything waiting."""
    await asyncio.sleep(0)
    time.sleep(1.5)  # noqa: ASYNC251 - the fault
    await asyncio.Event().wait()


async def run_badly_informed(self: EchoClient) -> None:
    """Report trouble without saying which, and get over it."""
    with contextlib.suppress(AssertionError):
        self._host.report(LoginState.RECONNECTING)
    await asyncio.Event().wait()


async def run_and_keep(self: EchoClient) -> None:
    """Keep what nobody was told of."""
    await self._host.store.put("seen:bob", b"")
    await asyncio.Event().wait()


async def send_to_nobody(self: EchoClient, message: Message) -> Receipt:
    """Say that it arrived."""
    return Receipt()


async def send_into_error(self: EchoClient, message: Message) -> Receipt:
    """Let a foreign error out."""
    raise AttributeError("'NoneType' object has no attribute 'write'")


async def send_vaguely(self: EchoClient, message: Message) -> Receipt:
    """Raise the family, not a member."""
    raise DeliveryError("something")


async def send_in_silence(self: EchoClient, message: Message) -> Receipt:
    """Say no reason."""
    raise TemporaryFailure("")


async def send_and_eat(self: EchoClient, message: Message) -> Receipt:
    """Make another error of the cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise TemporaryFailure("stopped") from None
    return Receipt()


async def send_on(self: EchoClient, message: Message) -> Receipt:
    """Go on though cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.sleep(6)
    return Receipt()


async def join_nothing(self: EchoClient, chat: RemoteChat) -> None:
    """Say that we are in."""


async def leave_nothing(self: EchoClient, chat: RemoteChat, reason: str) -> None:
    """Say that we are out."""


async def leave_by_crash(self: EchoClient, chat: RemoteChat, reason: str) -> None:
    """Fail with an error that says nothing to the host."""
    raise KeyError(chat.id)


async def join_later(self: EchoClient, chat: RemoteChat) -> None:
    """Wait, which is right."""
    await asyncio.Event().wait()


async def type_slowly(self: EchoClient, typing: object) -> None:
    """Wait for a connection to show what nobody waits for."""
    await asyncio.Event().wait()


def react_at_once(self: EchoClient, reaction: Reaction) -> Receipt:
    """Be no coroutine."""
    return Receipt()


def able(self: EchoConnector, chat: RemoteChatId) -> Capabilities:
    """Promise what the client has not."""
    return Capabilities(edits=Level.FULL)


CLIENT: list[Fault] = [
    ("types slowly", client(send_typing=type_slowly), r"send_typing\(\) waits before run"),
    ("no coroutine", client(send_reaction=react_at_once), "send_reaction must be `async def`"),
    ("promises", connector(capabilities=able), r"but the client has no send_edit\(\)"),
    ("send is not async", client(send=lambda *_: Receipt()), "a client with `async def send`"),
    ("run returns", client(run=run_and_return), r"run\(\) returned; it must stay until cancelled"),
    ("run lets an error out", client(run=run_into_error), r"run\(\) raised ConnectionRefused"),
    ("run is vague", client(run=run_vaguely), r"run\(\) raised ModuleError: something; raise Mod"),
    ("run says no reason", client(run=run_in_silence), "without a sentence that says why"),
    ("run cancels itself", client(run=run_as_cancelled), "though nobody cancelled it"),
    ("run eats it", client(run=run_and_eat), r"run\(\) returned when it was cancelled"),
    ("run translates it", client(run=run_and_translate), "raised ModuleNotReady when it was can"),
    ("run goes on", client(run=run_on), "did not end within 1 seconds"),
    ("a task is left", client(run=run_and_leave_a_task), "the task linger still runs"),
    ("a socket is left", client(run=run_and_leave_a_socket), "a socket is still open"),
    ("run blocks", client(run=run_and_block), r"faulty_clients.py, line \d+, in run_and_block"),
    ("no reason given", client(run=run_badly_informed), r"report\(RECONNECTING\) needs a reason"),
    ("kept in secret", client(run=run_and_keep), "'seen:bob', of which info.keeps says nothing"),
    ("sent to nobody", client(send=send_to_nobody), r"send\(\) gave Receipt.* before run"),
    ("send lets an error out", client(send=send_into_error), "raised AttributeError"),
    ("send is vague", client(send=send_vaguely), "raised DeliveryError: something; raise Temp"),
    ("send says no reason", client(send=send_in_silence), "without a sentence that says why"),
    ("send eats it", client(send=send_and_eat), "did not raise CancelledError when it was"),
    ("send goes on", client(send=send_on), "goes on though it was cancelled"),
    (
        "joined nothing",
        client(join=join_nothing, leave=leave_nothing),
        r"join\(\) returned before",
    ),
    ("leaves by crash", client(join=join_later, leave=leave_by_crash), "raised KeyError"),
]
"""A client without its network does not do as it must."""


class Spoken(EchoSettings):
    password: SecretStr = Field(description="Password.")


class Talker(EchoClient):
    """Says its password."""

    async def run(self) -> None:
        assert isinstance(self._settings, Spoken)
        self._host.log.debug("signing in as %s", self._settings.password.get_secret_value())
        await asyncio.Event().wait()


class Talkative(EchoConnector):
    """A connector whose client logs a secret."""

    settings = Spoken  # type: ignore[assignment]

    def connect(self, login: Login, host: Host) -> Talker:
        return Talker(self._settings, host)


class Blabber(EchoClient):
    """Says what a person signed in with."""

    def __init__(self, settings: EchoSettings, host: Host, login: Login) -> None:
        super().__init__(settings, host)
        self._login = login

    async def run(self) -> None:
        words = [secret.reveal() for secret in self._login.secrets.values()]
        raise ModuleNotReady(f"The network refused {words}.")


class Blabbing(EchoConnector):
    """A connector whose client puts a secret into its errors."""

    def login_flows(self) -> Sequence[LoginFlow]:  # type: ignore[override]
        return (LoginFlow(id="password", title="Password"),)

    def begin_login(self, flow: str, owner: UserId) -> Scripted:
        field = Field_(name="password", label="Password", secret=True)
        return Scripted(Ask(text="Sign in.", fields=(field,)))

    def connect(self, login: Login, host: Host) -> Blabber:
        return Blabber(self._settings, host, login)


async def run_quietly(self: EchoClient) -> None:
    """Connect, and do not say so."""
    _, self._writer = await asyncio.open_connection(self._settings.host, self._settings.port)
    try:
        await asyncio.Event().wait()
    finally:
        self._writer.close()
        self._writer = None


async def run_once(self: EchoClient) -> None:
    """Work at the first call only."""
    if getattr(self, "done", False):
        raise ModuleNotReady("Already started.")
    self.done = True  # type: ignore[attr-defined]
    await EchoClient.run(self)


async def send_nothing(self: EchoClient, message: Message) -> None:
    """Give no receipt."""
    await EchoClient.send(self, message)


async def send_never(self: EchoClient, message: Message) -> Receipt:
    """Take for ever."""
    if self._writer is None:
        raise TemporaryFailure("not connected")
    await asyncio.Event().wait()
    return Receipt()


async def send_ascii(self: EchoClient, message: Message) -> Receipt:
    """Fail for texts that somebody will write."""
    if any(not isinstance(node, type(message.body.nodes[0])) for node in message.body.nodes):
        raise UnicodeError("ordinal not in range")
    return await EchoClient.send(self, message)


async def send_after_the_end(self: EchoClient, message: Message) -> Receipt:
    """Take messages when nobody is there any more."""
    if not hasattr(self, "ever"):
        await EchoClient.send(self, message)
        self.ever = True  # type: ignore[attr-defined]
    return Receipt()


async def hear_without_id(self: EchoClient, line: bytes) -> None:
    """Hand in a message that cannot be told from others, and get over the refusal."""
    with contextlib.suppress(AssertionError):
        await self._host.receive(
            RemoteMessage(
                chat=RemoteChatId("hall"),
                id=RemoteMessageId(""),
                sender=ECHO,
                kind=MessageKind.TEXT,
                body=Rich(),
                at=self._host.now(),
            )
        )


async def find_as_typed(self: EchoConnector, text: str) -> RemoteChat:
    """Give one chat several ids."""
    if not text.isalpha():
        raise PermanentFailure("no chat")
    return RemoteChat(id=RemoteChatId(text), name=text.lower())


async def find_none(self: EchoConnector, text: str) -> RemoteChat:
    """Find nothing."""
    raise PermanentFailure("There is no such chat.")


async def react_with_true(self: EchoClient, reaction: Reaction) -> object:
    """Say that it was done, not as what."""
    return True


async def take_back_by_error(self: EchoClient, redaction: Redaction) -> Receipt:
    """Know no message but its own."""
    raise KeyError(redaction.targets)


CONNECTED: list[Fault] = [
    ("bare yes", client(send_reaction=react_with_true), r"send_reaction\(\) must give a Receipt"),
    ("foreign", client(send_redaction=take_back_by_error), r"send_redaction\(\) raised KeyError"),
    ("says nothing", client(run=run_quietly), r"did not host.report\(LoginState.CONNECTED\)"),
    ("runs once", client(run=run_once), "does not reach the network: Already started"),
    ("no receipt", client(send=send_nothing), r"send\(\) must give a Receipt, not None"),
    ("takes for ever", client(send=send_never), "takes longer than"),
    ("fails for some texts", client(send=send_ascii), "raised UnicodeError"),
    ("sends after the end", client(send=send_after_the_end), r"send\(\) gave .* after run\(\)"),
    ("no ids", client(_hear=hear_without_id), "without an id the same message"),
    ("two ids", connector(find_chat=find_as_typed), "one chat has one id"),
    ("finds nothing", connector(find_chat=find_none), "does not find the chat: There is no such"),
]
"""A client on its network does not do as it must."""
