"""The contract tests for authors: good modules pass, and each fault is named."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.bots.dice.bot import DiceBot
from bridge.networks.irc.connector import IrcConnector
from bridge.sdk.testing import check_bot, check_connector
from tests.rigs.echo_server import echo_server
from tests.rigs.ngircd import run_ngircd
from tests.sdk import faulty_bots, faulty_clients, faulty_connectors
from tests.sdk.faulty_connectors import Fault
from tests.tutorial.echo_bridge import EchoConnector

NOWHERE = {"host": "127.0.0.1", "port": 9}
LIMIT = 60.0
"""Seconds for a step; each ends in no time, if the machine lets it."""
ENDLESS = {
    "run goes on": 1.0, "send goes on": 1.0, "a task is left": 1.0, "a socket is left": 1.0,
    "says nothing": 1.0, "leaves a task": 1.0, "takes for ever": 4.0,
}  # fmt: skip
"""Seconds for what would never end. The last must have connected within them."""


def named(faults: list[Fault]) -> list[Any]:
    return [
        pytest.param(module, sentence, ENDLESS.get(name, LIMIT), id=name)
        for name, module, sentence in faults
    ]


async def test_the_dice_bot_keeps_the_contract() -> None:
    await check_bot(DiceBot, {}, said=["hello", "!roll 100d1000", "!choose a or b"])


async def test_a_bot_as_it_must_be_passes() -> None:
    await check_bot(faulty_bots.CoinBot, {})


async def test_settings_that_hold_others_of_their_kind_pass() -> None:
    tree = faulty_bots.bot(settings=faulty_bots.BranchSettings)
    await check_bot(tree, {"branches": [{}, {"branches": [{}]}]})


@pytest.mark.parametrize("mode", ["puppets", "relay"])
async def test_the_irc_connector_keeps_the_contract_without_a_network(mode: str) -> None:
    server = {**NOWHERE, "tls": False}
    await check_connector(IrcConnector, {"servers": [server], "mode": mode})


async def test_the_irc_connector_keeps_the_contract_on_a_network() -> None:
    async with run_ngircd() as server:
        await check_connector(
            IrcConnector,
            {
                "servers": [{"host": "127.0.0.1", "port": server.port, "tls": False}],
                "flood_burst": 500,
                "flood_rate": 5000,
            },
            chat="#Contract",
            reachable=True,
        )


async def test_a_connector_as_it_must_be_passes() -> None:
    await check_connector(EchoConnector, NOWHERE)
    async with echo_server() as server:
        await check_connector(
            EchoConnector, {**NOWHERE, "port": server.port}, chat="Hall", reachable=True
        )


@pytest_asyncio.fixture
async def cleaned() -> AsyncIterator[None]:
    """Whatever a faulty module left behind is gone afterwards."""
    yield
    for left in faulty_clients.LEFT:
        if isinstance(left, asyncio.Task):
            left.cancel()
            await asyncio.wait({left})
        else:
            left.close()
    faulty_clients.LEFT.clear()


@pytest.mark.usefixtures("cleaned")
@pytest.mark.parametrize(
    ("module", "sentence", "limit"),
    named([*faulty_connectors.DECLARED, *faulty_connectors.CONNECTOR, *faulty_clients.CLIENT]),
)
async def test_a_faulty_connector_is_caught_with_the_right_sentence(
    module: type, sentence: str, limit: float
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        await check_connector(module, NOWHERE, limit=limit)


@pytest.mark.parametrize(("module", "sentence", "limit"), named(faulty_clients.CONNECTED))
async def test_a_fault_on_the_network_is_caught_with_the_right_sentence(
    module: type, sentence: str, limit: float
) -> None:
    async with echo_server() as server:
        settings = {**NOWHERE, "port": server.port}
        with pytest.raises(AssertionError, match=sentence):
            await check_connector(module, settings, chat="Hall", reachable=True, limit=limit)


async def test_a_network_that_is_not_there_is_no_fault_of_the_module() -> None:
    with pytest.raises(AssertionError, match="does not reach the network: The echo server is"):
        await check_connector(EchoConnector, NOWHERE, chat="Hall", reachable=True)


@pytest.mark.usefixtures("cleaned")
@pytest.mark.parametrize(("module", "sentence", "limit"), named(faulty_bots.BOTS))
async def test_a_faulty_bot_is_caught_with_the_right_sentence(
    module: type, sentence: str, limit: float
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        await check_bot(module, {}, limit=limit)


async def test_secrets_are_found_in_logs_and_errors_and_not_repeated() -> None:
    settings = {**NOWHERE, "password": "sesame-seven"}
    with pytest.raises(AssertionError, match=r"a secret stands in .*signing in as …") as caught:
        await check_connector(faulty_clients.Talkative, settings)
    assert "sesame" not in str(caught.value)
    with pytest.raises(AssertionError, match=r"a secret stands in .*refused"):
        await check_connector(faulty_clients.Blabbing, NOWHERE)


async def test_settings_that_do_not_fit_are_the_tests_fault() -> None:
    with pytest.raises(AssertionError, match="the settings of this test are refused"):
        await check_connector(EchoConnector, {"port": "seven"})
    with pytest.raises(AssertionError, match="no EchoSettings but CoinSettings"):
        await check_connector(EchoConnector, faulty_bots.CoinSettings())


@pytest.fixture
def package(folder: Path) -> Iterator[Path]:
    """A package that can be imported, of which each test writes the files."""
    (folder / "stranger").mkdir()
    (folder / "stranger" / "__init__.py").write_text("")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder / "stranger"
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]


COPY = "from tests.tutorial.echo_bridge import EchoConnector as Copied\n"
CLASS = "class Stranger(Copied):\n    pass\n"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"main": "import bridge.core.host.bots\n"},
            "main.py, line 1: it imports bridge.core.host.bots",
        ),
        ({"main": "from bridge import core\n"}, "line 1: it imports bridge.core; a module knows"),
        (
            {"main": "def f():\n    from bridge.storage import pool\n"},
            "line 2: it imports bridge.s",
        ),
        ({"main": "import bridge\n"}, "it imports bridge; a module knows only bridge.sdk"),
        (
            {"main": "from .near import x\n", "near": "import bridge.model\nx = 1\n"},
            "near.py, line 1: it imports bridge.model",
        ),
        (
            {"main": "import stranger.far\n", "far": "from bridge.app import run\n"},
            "far.py, line 1: it imports bridge.app",
        ),
        (
            {"main": "from bridge.sdk.testing import FakeHost\n"},
            "bridge.sdk.testing is for tests",
        ),
    ],
)
async def test_an_import_that_a_module_may_not_have_is_named_by_its_line(
    package: Path, files: dict[str, str], sentence: str
) -> None:
    for name, text in files.items():
        tail = COPY + CLASS if name == "main" else ""
        (package / f"{name}.py").write_text(text + tail)
    stranger = importlib.import_module("stranger.main").Stranger
    with pytest.raises(AssertionError, match=sentence):
        await check_connector(stranger, NOWHERE)


async def test_a_stranger_that_imports_the_sdk_only_passes(package: Path) -> None:
    text = "import json\nfrom bridge import sdk\nfrom . import near\n"
    (package / "main.py").write_text(text + COPY + CLASS)
    (package / "near.py").write_text("from bridge.sdk.text import to_plain\n")
    await check_connector(importlib.import_module("stranger.main").Stranger, NOWHERE)


async def test_an_id_that_is_not_the_installed_name_is_named(package: Path) -> None:
    (package / "main.py").write_text(COPY + CLASS)
    about = package.parent / "stranger-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[trestle.networks]\nekko = stranger.main:Stranger\n")
    with pytest.raises(AssertionError, match=r"installed as 'ekko', but info.id is 'echo'"):
        await check_connector(importlib.import_module("stranger.main").Stranger, NOWHERE)
