"""A network and a bot that write down what reaches them, and misbehave on command.

Installed the way strangers' modules are. Their ledger is a file with a line for each message:
the room or chat, a tab, the text.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bridge import sdk
from tests.rigs.entrypoints import write_distribution

_POLL = 0.02
TWINS = ("Ann", "Ben")
TWIN_ID = "twin"


class SinkSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ledger: str


class _Sink:
    """Writes, but not while there is a file of the ledger's name and ``.hold``.

    What is ``flaky`` fails until there is one of its name and ``.mended``.
    """

    def __init__(self, ledger: str) -> None:
        self._hold = Path(f"{ledger}.hold")
        self._mended = Path(f"{ledger}.mended")
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def take(self, place: str, text: str) -> None:
        """Do what the text says, then write it down."""
        while self._hold.exists():
            await asyncio.sleep(_POLL)
        match text.split():
            case ["slow", seconds, *_]:
                await asyncio.sleep(float(seconds))
            case ["raise"]:
                raise RuntimeError("as asked")
            case ["flaky"] if not self._mended.exists():
                raise RuntimeError("not mended yet")
            case ["exit"]:
                os._exit(9)
            case ["block"]:
                time.sleep(1000)  # noqa: ASYNC251 - as asked
            case ["hang"]:
                await asyncio.Event().wait()
            case ["stubborn"]:
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        continue
        os.write(self._file, f"{place}\t{text}\n".encode())


class SinkBot:
    info = sdk.ModuleInfo(id="sinkbot", name="Sink", summary="Writes down what it hears.")
    settings = SinkSettings

    def __init__(self, settings: SinkSettings, host: sdk.BotHost) -> None:
        self._sink = _Sink(settings.ledger)

    @property
    def commands(self) -> Sequence[sdk.Command]:
        return ()

    async def on_message(self, message: sdk.RoomMessage, call: sdk.Call) -> None:
        await self._sink.take(message.room, call.text)
        if call.text.startswith("say "):
            await call.reply(call.text)


class SinkConnector:
    info = sdk.ModuleInfo(id="sink", name="Sink", summary="A network that is a file.")
    settings = SinkSettings
    directory = sdk.Directory(
        protocol="sink", chat_field="chat", user_field="user",
        patterns={"chat": ("[a-z]+", "chat"), "user": ("[a-z]+", "user")},
    )  # fmt: skip

    def __init__(self, settings: SinkSettings) -> None:
        self._sink = _Sink(settings.ledger)

    def login_flows(self) -> tuple[sdk.LoginFlow, ...]:
        return ()

    def capabilities(self, chat: sdk.RemoteChatId) -> sdk.Capabilities:
        return sdk.Capabilities(acknowledges=True)

    def connect(self, login: sdk.Login, host: sdk.Host) -> "SinkClient":
        return SinkClient(self._sink, host)

    async def find_chat(self, text: str) -> sdk.RemoteChat:
        return sdk.RemoteChat(id=sdk.RemoteChatId(text.strip()), name=text.strip())

    async def find_user(self, text: str) -> sdk.RemoteUser:
        return sdk.RemoteUser(id=sdk.RemoteUserId(text.strip()), name=text.strip())


class SinkClient:
    def __init__(self, sink: _Sink, host: sdk.Host) -> None:
        self._sink = sink
        self._host = host

    async def run(self) -> None:
        self._host.report(sdk.LoginState.CONNECTED)
        await asyncio.Event().wait()

    async def send(self, message: sdk.Message) -> sdk.Receipt:
        text = sdk.to_plain(message.body)
        await self._sink.take(message.chat, text)
        if text.startswith("twins "):
            await self._speak_as_twins(message.chat, text)
        return sdk.Receipt(remote_ids=(sdk.RemoteMessageId(message.event_id),))

    async def _speak_as_twins(self, chat: sdk.RemoteChatId, text: str) -> None:
        """Two people say the same under the same id at the same moment."""
        async with asyncio.TaskGroup() as group:
            for name in TWINS:
                said = sdk.RemoteMessage(
                    chat=chat,
                    id=sdk.RemoteMessageId(f"{TWIN_ID} {text}"),
                    sender=sdk.RemoteUser(id=sdk.RemoteUserId(name.lower()), name=name),
                    kind=sdk.MessageKind.TEXT,
                    body=sdk.Rich.plain(f"both of us: {text}"),
                    at=self._host.now(),
                )
                group.create_task(self._host.receive(said))


def install_sink(folder: Path) -> str:
    """Install both into a folder; give the ``PYTHONPATH`` that has it."""
    write_distribution(
        folder / "site", "trestle_sink",
        f"[trestle.bots]\nsinkbot = {__name__}:SinkBot\n"
        f"[trestle.networks]\nsink = {__name__}:SinkConnector\n",
    )  # fmt: skip
    return f"{folder / 'site'}:{os.getcwd()}"


def read_sink(ledger: Path, place: str = "") -> list[str]:
    """What was written down, of one place or of all, in order."""
    if not ledger.exists():
        return []
    lines = [line.partition("\t") for line in ledger.read_text().splitlines()]
    return [text for where, _, text in lines if place in ("", where)]
