"""Connectors that break one rule each, with the words by which their author is told."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import ConfigDict, Field, SecretStr, create_model

from bridge.sdk import (
    Capabilities,
    Holds,
    Host,
    Kept,
    Login,
    LoginFlow,
    Remark,
    RemoteChat,
)
from bridge.sdk import (
    Field as Ask,
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


SEEN = Kept(prefix="seen:", holds=Holds.ID, purpose="who was seen", keep_for=None)


class Unprintable:
    """A type that no form has a field for."""


def flows(*found: Any) -> type:
    """The tutorial's connector with ways to sign in."""
    return connector(login_flows=lambda self: found)


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
        "no form",
        settings(
            ConfigDict(extra="forbid", arbitrary_types_allowed=True),
            what=(Unprintable | None, Field(default=None, description="What.")),
        ),
        "no form can be made",
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
    subprocess.run([sys.executable, "-c", ""], check=True)
    return Capabilities()


ASK = Ask(name="name", label="Name")
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
    (
        "equal flows",
        flows(LoginFlow(id="a", title="A"), LoginFlow(id="a", title="B")),
        "two flows have the same id",
    ),
    ("a bad flow", flows(LoginFlow(id="A b", title="A")), "an id has a-z, 0-9 and _ only"),
    ("no title", flows(LoginFlow(id="a", title="")), "has no title"),
    ("equal fields", flows(LoginFlow(id="a", title="A", fields=(ASK, ASK))), "two fields"),
    (
        "no label",
        flows(LoginFlow(id="a", title="A", fields=(replace(ASK, label=""),))),
        "field 'name' has no label",
    ),
    (
        "a bad field",
        flows(LoginFlow(id="a", title="A", fields=(replace(ASK, name="x-y"),))),
        "field 'x-y': a name has",
    ),
    (
        "a shown password",
        flows(LoginFlow(id="a", title="A", fields=(replace(ASK, name="password"),))),
        "set secret=True",
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
    ("consent is a bool", connector(refuse_bridge=lambda self, chat: True), "a sentence or None"),
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
