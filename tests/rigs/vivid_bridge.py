"""A network in memory that can do all there is: it writes down what is done to it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from bridge import sdk
from tests.rigs.entrypoints import findable

ENTRY = "[trestle.networks]\nvivid = tests.rigs.vivid_bridge:VividConnector\n"
FULL = {"edits": 2, "replies": 2, "reactions": 2, "redactions": 2, "typing": 2}
LONGEST = 700
Said = sdk.Message | sdk.Edit | sdk.Reaction | sdk.Redaction


@dataclass
class Vivid:
    """What the network knows."""

    levels: dict[str, int] = field(default_factory=lambda: dict(FULL))
    limits: dict[str, int] = field(default_factory=dict)
    done: list[Said] = field(default_factory=list)
    """What reached it, in order."""
    typing: list[sdk.Typing] = field(default_factory=list)
    unsupported: bool = False
    """It can do less than its connector says."""
    relay: sdk.Host | None = None
    is_swift: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, messages are taken only when somebody stops them."""
    waits: bool = False
    client: "Callable[[sdk.Login, sdk.Host], VividClient] | None" = None
    """Makes another client than this one's own."""
    is_away: bool = False
    """It takes no message for now."""

    def __post_init__(self) -> None:
        self.is_swift.set()

    def texts(self) -> list[str]:
        """The messages, as text."""
        return [sdk.to_plain(one.body) for one in self.done if isinstance(one, sdk.Message)]

    async def receive(self, event: sdk.RemoteEvent) -> None:
        """Have something happen on the network."""
        assert self.relay is not None
        await self.relay.receive(event)

    def message(self, name: str, id_: str, text: str, **more: Any) -> sdk.RemoteMessage:
        """What somebody there says."""
        assert self.relay is not None
        return sdk.RemoteMessage(
            chat=sdk.RemoteChatId("hall"),
            id=sdk.RemoteMessageId(id_),
            sender=person(name),
            kind=sdk.MessageKind.TEXT,
            body=sdk.Rich.plain(text),
            at=self.relay.now(),
            **more,
        )

    async def wait_until(self, is_so: Callable[["Vivid"], bool]) -> None:
        """Return when what reached it makes it so."""
        async with asyncio.timeout(120):
            while not is_so(self):
                await asyncio.sleep(0.02)


NETWORK = Vivid()


def person(name: str) -> sdk.RemoteUser:
    """Somebody on the network."""
    return sdk.RemoteUser(id=sdk.RemoteUserId(name.lower()), name=name)


@contextmanager
def installed() -> Iterator[Vivid]:
    """Have the module found as any that is installed, and a network without a past."""
    vars(NETWORK).update(vars(Vivid()))
    with findable("vivid", ENTRY):
        yield NETWORK


class VividSettings(BaseModel):
    """It has none."""

    model_config = ConfigDict(extra="forbid")


class VividConnector:
    """The network."""

    info = sdk.ModuleInfo(
        id="vivid",
        name="Vivid",
        summary="A network that can do all there is.",
        docs="https://vivid.example/docs",
        removal="Remove the instance from `modules:`.",
    )
    settings = VividSettings
    directory = sdk.Directory(
        protocol="vivid",
        chat_field="chat",
        user_field="user",
        patterns={"chat": ("[a-z]+", "chat"), "user": ("[a-z]+", "user")},
    )

    def __init__(self, settings: BaseModel) -> None:
        pass

    def login_flows(self) -> tuple[sdk.LoginFlow, ...]:
        """Nobody signs in."""
        return ()

    def capabilities(self, chat: sdk.RemoteChatId) -> sdk.Capabilities:
        """What the test says."""
        levels: dict[str, Any] = {name: sdk.Level(level) for name, level in NETWORK.levels.items()}
        return sdk.Capabilities(
            puppets=True, acknowledges=True, avatars=True, limits=NETWORK.limits, **levels
        )

    def connect(self, login: sdk.Login, host: sdk.Host) -> "VividClient":
        """Make a client."""
        return (NETWORK.client or VividClient)(login, host)

    async def find_chat(self, text: str) -> sdk.RemoteChat:
        """Read a chat's name."""
        name = text.strip().lower()
        if not (name.isascii() and name.isalpha()):
            raise sdk.PermanentFailure("a chat's name has letters from a to z")
        return sdk.RemoteChat(id=sdk.RemoteChatId(name), name=name)

    async def find_user(self, text: str) -> sdk.RemoteUser:
        """Read a person's name."""
        return person((await self.find_chat(text)).name)


class VividClient:
    """One login there."""

    def __init__(self, login: sdk.Login, host: sdk.Host) -> None:
        self._login = login
        self._host = host
        self._is_up = False

    async def run(self) -> None:
        """Be connected."""
        if self._login.kind is sdk.LoginKind.RELAY:
            NETWORK.relay = self._host
        self._is_up = True
        self._host.report(sdk.LoginState.CONNECTED)
        try:
            await asyncio.Event().wait()
        finally:
            self._is_up = False

    async def _do(self, said: Said) -> sdk.Receipt:
        if not self._is_up:
            raise sdk.TemporaryFailure("not connected", retry_after=0.1)
        if NETWORK.unsupported and not isinstance(said, sdk.Message):
            raise sdk.Unsupported("this network cannot")
        NETWORK.done.append(said)
        return sdk.Receipt(remote_ids=(sdk.RemoteMessageId(f"v{len(NETWORK.done)}"),))

    async def send(self, message: sdk.Message) -> sdk.Receipt:
        """Take a message, but no long one."""
        if len(sdk.to_plain(message.body)) > LONGEST:
            raise sdk.TooLong("this is too long")
        if NETWORK.is_away:
            NETWORK.waits = True
            raise sdk.TemporaryFailure("away", retry_after=0.1)
        NETWORK.waits = not NETWORK.is_swift.is_set()
        await NETWORK.is_swift.wait()
        NETWORK.waits = False
        return await self._do(message)

    def stop_sending(self, event_id: sdk.EventId) -> bool:
        """Be slow no more."""
        NETWORK.is_swift.set()
        return True

    async def send_edit(self, edit: sdk.Edit) -> sdk.Receipt:
        """Take a change."""
        return await self._do(edit)

    async def send_reaction(self, reaction: sdk.Reaction) -> sdk.Receipt:
        """Take a reaction."""
        return await self._do(reaction)

    async def send_redaction(self, redaction: sdk.Redaction) -> sdk.Receipt:
        """Take a message back."""
        return await self._do(redaction)

    async def send_typing(self, typing: sdk.Typing) -> None:
        """Take note of who writes."""
        NETWORK.typing.append(typing)
