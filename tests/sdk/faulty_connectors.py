"""Connectors that break one rule each, with the words by which their author is told."""

import asyncio
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import ConfigDict, Field, SecretStr, create_model

from bridge.sdk import (
    Ask,
    Capabilities,
    Finished,
    Holds,
    Host,
    Kept,
    Login,
    LoginFlow,
    LoginRequired,
    NetworkCall,
    NetworkCommand,
    PermanentFailure,
    Remark,
    RemoteChat,
    Show,
    Wait,
    Where,
)
from bridge.sdk import (
    Field as Field_,
)
from tests.tutorial.echo_bridge import EchoClient, EchoConnector, EchoSettings

Fault = tuple[str, Any, str]
INFO = EchoConnector.info
STRICT = ConfigDict(extra="forbid")


def connector(**changes: Any) -> type:
    """The tutorial's connector with something changed."""
    return type("Faulty", (EchoConnector,), changes)


def settings(strict: ConfigDict = STRICT, **fields: Any) -> type:
    """The tutorial's connector with other settings."""
    made = create_model("Faulty", __config__=strict, **fields)
    return connector(settings=made)


def keeps(*kept: Kept) -> type:
    """The tutorial's connector keeping other things."""
    return connector(info=replace(INFO, keeps=kept))


async def forget_the_known(self: object, person: str) -> None:
    """Forget nobody of whom nothing is known."""
    raise PermanentFailure(f"{person} is not known")


async def say_nothing(call: NetworkCall) -> str:
    """Answer a command with nothing."""
    return ""


WHOIS = NetworkCommand(
    name="whois", usage="whois <nick>", help="say who it is", where=Where.PERSON, run=say_nothing
)


def takes(*commands: NetworkCommand) -> type:
    """The tutorial's connector taking commands."""
    return connector(commands=commands)


SEEN = Kept(prefix="seen:", holds=Holds.ID, purpose="who was seen", keep_for=None)


class Unprintable:
    """A type that JSON has no words for."""


class Scripted:
    """Gives what it is told to, then finishes with the answers."""

    def __init__(self, *steps: Any) -> None:
        self._steps = list(steps)

    async def start(self) -> Any:
        """The first step."""
        return self._steps.pop(0)

    async def submit(self, answers: Any) -> Any:
        """The next, raised if it is an error; then the end."""
        given = self._steps.pop(0) if self._steps else Finished(name="alice", secrets=answers)
        if isinstance(given, Exception):
            raise given
        return given


def flows(*found: Any, begin: Any = None) -> type:
    """The tutorial's connector with ways to sign in."""
    changes = {} if begin is None else {"begin_login": begin}
    return connector(login_flows=lambda self: found, **changes)


def steps(*given: Any) -> type:
    """The tutorial's connector with a way to sign in that goes like this."""
    return flows(PASSWORD, begin=lambda self, flow, owner: Scripted(*given))


PASSWORD = LoginFlow(id="password", title="Password")


def asks(*found: Field_) -> Ask:
    """A step that asks for this."""
    return Ask(text="Sign in.", fields=found)


def examines(*found: Any) -> type:
    """The tutorial's connector looking for itself, and finding this."""

    async def examine(self: object) -> Sequence[Any]:
        return found

    return connector(examine=examine)


DECLARED: list[Fault] = [
    ("no info", connector(info=None), "`info` is missing"),
    ("a bad id", connector(info=replace(INFO, id="Echo!")), "a-z and 0-9, at most 16"),
    ("no name", connector(info=replace(INFO, name=" ")), "info.name is empty"),
    ("no sentence", connector(info=replace(INFO, summary="an echo")), "info.summary must be a"),
    ("no way out", connector(info=replace(INFO, removal="")), "info.removal must be a sentence"),
    ("no icon", connector(info=replace(INFO, icon="https://x/y.png")), "is no content URI"),
    ("no documentation", connector(info=replace(INFO, docs="")), "info.docs is empty"),
    ("no purpose", keeps(replace(SEEN, purpose="")), "say what 'seen:' is kept for"),
    ("no prefix", keeps(replace(SEEN, prefix="")), "a prefix is empty"),
    ("kept twice", keeps(SEEN, replace(SEEN, prefix="seen:x")), "hold the same keys"),
    ("kept for no time", keeps(replace(SEEN, keep_for=timedelta(0))), "longer than nothing"),
    ("no settings", connector(settings=dict), "`settings` is missing"),
    (
        "loose settings",
        settings(ConfigDict(), host=(str, Field(description="Host."))),
        "takes keys that it does not know",
    ),
    (
        "a key of the core",
        settings(puppets=(str, Field(description="Puppets."))),
        "settings.puppets: the core reads that key itself",
    ),
    ("no description", settings(host=(str, "")), "settings.host has no description"),
    (
        "no description inside",
        settings(
            servers=(
                tuple[create_model("Inner", __config__=STRICT, port=(int, 7)), ...],  # type: ignore[misc]
                Field(description="Servers."),
            )
        ),
        "settings.servers.port has no description",
    ),
    (
        "a printed secret",
        settings(api_token=(str, Field(description="Token."))),
        "settings.api_token looks like a secret",
    ),
    (
        "a known secret",
        settings(password=(SecretStr, Field(default=SecretStr("x"), description="Password."))),
        "is a secret with a default",
    ),
    (
        "no schema",
        settings(
            ConfigDict(extra="forbid", arbitrary_types_allowed=True),
            what=(Unprintable | None, Field(default=None, description="What.")),
        ),
        "no JSON schema can be made",
    ),
]
"""What is said of the module is not as it must be."""


def look_up(*_: object) -> Any:
    """Touch the network."""
    socket.getaddrinfo("127.0.0.1", 9)
    return ()


def read_file(self: Any, settings: EchoSettings) -> None:
    """Read a file where nothing may wait."""
    self._settings = settings
    with open("/etc/hostname", "rb") as file:
        file.read()


def start_program(*_: object) -> Any:
    """Run a program."""
    subprocess.run(["/bin/true"], check=True)  # As quick as a program can be.
    return Capabilities()


def logs_out_badly() -> type:
    """The tutorial's connector with clients that fail at logging out."""

    async def log_out(self: object) -> None:
        raise KeyError("token")

    made: Any = type("Client", (EchoClient,), {"log_out": log_out})
    return connector(
        login_flows=lambda self: (PASSWORD,),
        begin_login=lambda self, flow, owner: Scripted(asks(FIELD)),
        connect=lambda self, login, host: made(self._settings, host),
    )


FIELD = Field_(name="name", label="Name")
ALWAYS = Scripted(asks(FIELD))
ONE: list[EchoClient] = []


def same_client(self: EchoConnector, login: Login, host: Host) -> EchoClient:
    """Give the first client again."""
    ONE[:] = ONE or [EchoClient(self._settings, host)]
    return ONE[0]


def eager_client(self: EchoConnector, login: Login, host: Host) -> EchoClient:
    """Begin before the host said so."""
    asyncio.get_running_loop().create_task(asyncio.sleep(0))
    return EchoClient(self._settings, host)


async def find_by_crash(self: EchoConnector, text: str) -> RemoteChat:
    """Fail with an error that says nothing to the host."""
    raise ValueError(text)


CONNECTOR: list[Fault] = [
    ("reads a file", connector(__init__=read_file), "making the connector opened the file"),
    ("looks up names", connector(login_flows=look_up), r"login_flows\(\) looked up '127.0.0.1'"),
    ("starts a program", connector(capabilities=start_program), r"capabilities\(\) started"),
    ("no flows", connector(login_flows=lambda self: None), "must give a list or tuple"),
    ("no commands", connector(commands=["whois"]), "a list or tuple of NetworkCommand"),
    ("equal commands", takes(WHOIS, WHOIS), "commands: two have the same name"),
    ("a loud command", takes(replace(WHOIS, name="WHOIS")), "a name has a-z, 0-9 and - only"),
    ("the host's command", takes(replace(WHOIS, name="join")), "that name is the host's own"),
    ("power for what needs none", takes(replace(WHOIS, looks_alone=True)), "and it needs none"),
    ("a loud word", takes(replace(WHOIS, words=frozenset({"Off"}))), "in small letters"),
    ("the host's other", takes(replace(WHOIS, name="query")), "that name is the host's own"),
    ("another usage", takes(replace(WHOIS, usage="who <nick>")), "usage begins with the name"),
    ("no help", takes(replace(WHOIS, help=" ")), "needs a line of help"),
    ("power over oneself", takes(replace(WHOIS, needs_power=True)), "power in a room says"),
    (
        "equal flows",
        flows(LoginFlow(id="a", title="A"), LoginFlow(id="a", title="B")),
        "two flows have the same id",
    ),
    ("a bad flow", flows(LoginFlow(id="A b", title="A")), "an id has a-z, 0-9 and _ only"),
    ("no title", flows(LoginFlow(id="a", title="")), "has no title"),
    ("no way through", flows(PASSWORD), r"there is no begin_login\(\)"),
    (
        "one process for all",
        flows(PASSWORD, begin=lambda self, flow, owner: ALWAYS),
        "must make a new process at each call",
    ),
    ("no step", steps("password?"), "must give an Ask, a Show or a Wait, not str"),
    ("a step without words", steps(Wait(text="")), "the step has no text"),
    ("no fields", steps(asks()), "gave an Ask without fields"),
    ("equal fields", steps(asks(FIELD, FIELD)), "two fields"),
    ("no label", steps(asks(replace(FIELD, label=""))), "field 'name' has no label"),
    ("a bad field", steps(asks(replace(FIELD, name="x-y"))), "field 'x-y': a name has"),
    ("a shown password", steps(asks(replace(FIELD, name="password"))), "set secret=True"),
    ("nothing to show", steps(Show(text="Open it.")), "neither link nor code"),
    ("a strange link", steps(Show(text="Open it.", link="javascript:x")), "not of the web"),
    ("a second step of no kind", steps(asks(FIELD), 5), "not int"),
    (
        "a login that crashes",
        steps(asks(FIELD), ValueError("no")),
        r"submit\(\) raised ValueError: no; raise LoginRequired",
    ),
    ("a refusal without words", steps(asks(FIELD), LoginRequired("")), "without a sentence"),
    ("no end", steps(*[asks(FIELD)] * 30), "does not come to an end after 20 steps"),
    (
        "no name for the account",
        steps(asks(FIELD), Finished(name="", secrets={})),
        "finished without a name",
    ),
    (
        "a password in the open",
        steps(asks(FIELD), Finished(name="alice", secrets={"password": "x"})),  # type: ignore[dict-item]
        r"secrets\['password'\], which must be a Secret",
    ),
    ("a log out that crashes", logs_out_badly(), r"log_out\(\) raised KeyError"),
    (
        "a refusal that says the password",
        steps(asks(FIELD), LoginRequired("Example refused canary-7c1f52.")),
        "a secret stands in what it logs or says",
    ),
    ("no capabilities", connector(capabilities=lambda self, chat: {}), "must give Capabilities"),
    (
        "a number for a level",
        connector(capabilities=lambda self, chat: Capabilities(edits=1)),  # type: ignore[arg-type]
        "edits must be a Level",
    ),
    (
        "an empty limit",
        connector(capabilities=lambda self, chat: Capabilities(limits={"lines": 0})),
        "the limit lines must be a whole number",
    ),
    ("it knows only whom it knows", connector(forget=forget_the_known), "must do nothing"),
    ("consent is a word", connector(needs_consent=lambda self, chat: "no"), "must give a bool"),
    (
        "a wish without its meaning",
        connector(wishes=lambda self: [("help", "")]),
        "must give pairs",
    ),
    ("words for a remark", examines("fine"), r"must give a list of Remark, not 'fine'"),
    ("a level of its own", examines(Remark("good", "x")), "gave the level 'good'; there are ok"),  # type: ignore[arg-type]
    ("two lines", examines(Remark("ok", "one\ntwo")), "must be a sentence on one line"),
    ("no words", examines(Remark("ok", " ")), "must be a sentence on one line"),
    ("no directory", connector(directory=None), "must be a Directory"),
    (
        "a field without a pattern",
        connector(directory=replace(EchoConnector.directory, user_field="nick")),
        "says nothing of the field 'nick'",
    ),
    ("a search that crashes", connector(find_chat=find_by_crash), r"find_chat\(''\) raised Value"),
    ("one client for all", connector(connect=same_client), "a new client at each call"),
    ("an eager client", connector(connect=eager_client), r"connect\(\) made a task"),
    ("no client", connector(connect=lambda *_: object()), "a client with `async def run`"),
]
"""The connector does not do as it must."""
