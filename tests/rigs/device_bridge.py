"""A network on which people sign in elsewhere: by a link and a code, or by a token."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from bridge import sdk
from tests.rigs.entrypoints import findable

ENTRY = "[trestle.networks]\ndevice = tests.rigs.device_bridge:DeviceConnector\n"


@dataclass
class Network:
    """What the network knows."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """The person has opened the link."""
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    """The person has said yes there."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Token to account."""
    is_there: bool = True
    trouble: BaseException | None = None
    """With what it fails to end a token."""
    held: asyncio.Event | None = None
    """Until this is set, no token is looked at."""


NETWORK = Network()


@contextmanager
def installed() -> Iterator[None]:
    """Have the module found as any that is installed, and a network that knows nobody."""
    vars(NETWORK).update(vars(Network()))
    with findable("device", ENTRY):
        yield


class Settings(BaseModel):
    """It has none."""

    model_config = ConfigDict(extra="forbid")


class DeviceLogin:
    """By a link and a code."""

    def __init__(self) -> None:
        self._shown = 0

    async def start(self) -> sdk.Step:
        """Show the link."""
        return sdk.Show(
            text="Open the link and type the code.", link="https://device.example/", code="AB-12"
        )

    async def submit(self, answers: Mapping[str, sdk.Secret]) -> sdk.Step | sdk.Finished:
        """Wait for the person."""
        self._shown += 1
        if self._shown == 1:
            await NETWORK.opened.wait()
            return sdk.Wait(text="Now say yes there.")
        await NETWORK.confirmed.wait()
        NETWORK.tokens["made"] = "dana"
        return sdk.Finished(name="dana", secrets={"token": sdk.Secret("made")})


class TokenLogin:
    """By a token that the person has."""

    async def start(self) -> sdk.Step:
        """Ask for it."""
        asked = sdk.Field(name="token", label="Token", secret=True)
        return sdk.Ask(text="Give your token.", fields=(asked,))

    async def submit(self, answers: Mapping[str, sdk.Secret]) -> sdk.Finished:
        """See whether it is one."""
        if NETWORK.held is not None:
            await NETWORK.held.wait()
        name = NETWORK.tokens.get(answers["token"].reveal())
        if name is None:
            raise sdk.LoginRequired("The network knows no such token")
        return sdk.Finished(name=name, secrets=answers)


class DeviceConnector:
    """The network."""

    info = sdk.ModuleInfo(
        id="device",
        name="Device",
        summary="Signs in elsewhere.",
        docs="https://device.example/docs",
        removal="Remove the instance from `modules:`.",
    )
    settings = Settings

    def __init__(self, settings: BaseModel) -> None:
        pass

    def login_flows(self) -> tuple[sdk.LoginFlow, ...]:
        """Two ways."""
        return (
            sdk.LoginFlow(id="device", title="By a link"),
            sdk.LoginFlow(id="token", title="By a token"),
        )

    def begin_login(self, flow: str, owner: sdk.UserId) -> sdk.LoginProcess:
        """Begin one of them."""
        return DeviceLogin() if flow == "device" else TokenLogin()

    def capabilities(self, chat: sdk.RemoteChatId) -> sdk.Capabilities:
        """Nothing of interest."""
        return sdk.Capabilities()

    def connect(self, login: sdk.Login, host: sdk.Host) -> "DeviceClient":
        """Make a client."""
        return DeviceClient(login, host)


class DeviceClient:
    """One login there."""

    def __init__(self, login: sdk.Login, host: sdk.Host) -> None:
        self._login = login
        self._host = host

    async def run(self) -> None:
        """Be connected as long as the token is good."""
        token = self._login.secrets.get("token")
        if self._login.owner is not None and (
            token is None or token.reveal() not in NETWORK.tokens
        ):
            raise sdk.LoginRequired("The token is good no more")
        self._host.report(sdk.LoginState.CONNECTED)
        await asyncio.Event().wait()

    async def send(self, message: sdk.Message) -> sdk.Receipt:
        """Nobody speaks here."""
        raise sdk.Unsupported("nobody speaks here")

    async def log_out(self) -> None:
        """End the token."""
        if NETWORK.trouble is not None:
            raise NETWORK.trouble
        if not NETWORK.is_there:
            raise sdk.TemporaryFailure("the network is away")
        NETWORK.tokens.pop(self._login.secrets["token"].reveal(), None)
