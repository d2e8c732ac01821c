"""A bridge to a server that says everything back."""

import asyncio

from pydantic import BaseModel, ConfigDict, Field

from bridge import sdk

ECHO = sdk.RemoteUser(id=sdk.RemoteUserId("echo"), name="Echo")


class EchoSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str = Field(description="Name or address of the echo server.")
    port: int = Field(default=7, ge=1, le=65535, description="Its TCP port.")


class EchoConnector:
    info = sdk.ModuleInfo(
        id="echo",
        name="Echo",
        summary="Bridges rooms to a server that says everything back.",
        docs="https://example.org/trestle-echo",
        removal="Unbridge its rooms, then remove the instance from `modules:`.",
    )
    settings = EchoSettings
    directory = sdk.Directory(
        protocol="echo",
        chat_field="chat",
        user_field="user",
        patterns={"chat": ("[a-z]+", "chat"), "user": ("echo", "echo")},
    )

    def __init__(self, settings: EchoSettings) -> None:
        self._settings = settings

    def login_flows(self) -> tuple[sdk.LoginFlow, ...]:
        return ()  # Nobody signs in.

    def capabilities(self, chat: sdk.RemoteChatId) -> sdk.Capabilities:
        return sdk.Capabilities()  # Plain text; the core does the rest.

    def connect(self, login: sdk.Login, host: sdk.Host) -> "EchoClient":
        return EchoClient(self._settings, host)

    async def find_chat(self, text: str) -> sdk.RemoteChat:
        name = text.strip().lower()
        if not (name.isascii() and name.isalpha() and len(name) <= 50):
            raise sdk.PermanentFailure("a chat's name has letters from a to z, at most 50")
        return sdk.RemoteChat(id=sdk.RemoteChatId(name), name=name)

    async def find_user(self, text: str) -> sdk.RemoteUser:
        return ECHO


class EchoClient:
    def __init__(self, settings: EchoSettings, host: sdk.Host) -> None:
        self._settings = settings
        self._host = host
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        address = self._settings.host, self._settings.port
        try:
            reader, self._writer = await asyncio.open_connection(*address)
            self._host.report(sdk.LoginState.CONNECTED)
            async for line in reader:
                await self._hear(line)
        except (OSError, ValueError) as error:
            raise sdk.ModuleNotReady(f"The echo server is away: {error}") from error
        finally:
            if self._writer is not None:
                self._writer.close()
            self._writer = None
        raise sdk.ModuleNotReady("The echo server closed the connection.")

    async def _hear(self, line: bytes) -> None:
        chat, number, text = line.decode(errors="replace").split(" ", 2)
        message = sdk.RemoteMessage(
            chat=sdk.RemoteChatId(chat),
            id=sdk.RemoteMessageId(number),
            sender=ECHO,
            kind=sdk.MessageKind.TEXT,
            body=sdk.Rich.plain(text.strip()),
            at=self._host.now(),
        )
        await self._host.receive(message)

    async def send(self, message: sdk.Message) -> sdk.Receipt:
        if self._writer is None:
            raise sdk.TemporaryFailure("the echo server is not connected", retry_after=1)
        words = sdk.to_plain(message.body).split()  # Without line breaks.
        if message.relayed:
            words.insert(0, f"{message.sender.name}:")
        try:
            self._writer.write(f"{message.chat} {message.event_id} {' '.join(words)}\n".encode())
            await self._writer.drain()
        except OSError as error:
            raise sdk.DeliveryUncertain(f"the connection broke: {error}") from error
        return sdk.Receipt(remote_ids=(sdk.RemoteMessageId(message.event_id),))
