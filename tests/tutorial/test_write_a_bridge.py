"""What the tutorial says is so: its bridge, its test, its package, its settings."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from ruamel.yaml import YAML

from bridge.app import App
from bridge.core.host.catalogue import find_module
from bridge.sdk import InstanceId, ModuleState
from bridge.sdk.testing import FakeHost, check_connector, make_login, running
from bridge.settings.options import check_options
from bridge.settings.records import DatabaseSettings
from tests.flow.rooms import bridge
from tests.rigs import trestle
from tests.rigs.echo_server import EchoServer, echo_server
from tests.rigs.trestle import Town, make_modules
from tests.tutorial.echo_bridge import EchoConnector, EchoSettings

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/tutorial/write-a-bridge.md").read_text()
CODE = (Path(__file__).parent / "echo_bridge.py").read_text()


def blocks(language: str) -> list[str]:
    """The page's pieces of code in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_code_in_the_page_is_the_tested_one() -> None:
    assert blocks("python")[0] == CODE


def test_the_bridge_is_as_short_as_an_evening() -> None:
    assert sum(bool(line.strip()) for line in CODE.splitlines()) <= 85


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[EchoServer]:
    async with echo_server() as server:
        yield server


async def test_the_bridge_keeps_the_contract(echo: EchoServer) -> None:
    await check_connector(EchoConnector, {"host": "127.0.0.1", "port": 9})
    settings = EchoSettings(host="127.0.0.1", port=echo.port)
    await check_connector(EchoConnector, settings, chat="Hall", reachable=True)


async def test_rubbish_from_the_server_ends_the_connection_with_a_sentence(
    echo: EchoServer,
) -> None:
    host = FakeHost()
    connector = EchoConnector(EchoSettings(host="127.0.0.1", port=echo.port))
    async with running(connector.connect(make_login(), host), host):
        await host.wait_until_connected()
        echo.say(b"\xff\xfe\n")
        await host.wait_until(lambda host: "away: not enough values" in host.reports[-1][1])


def test_the_test_in_the_page_passes_where_nothing_but_it_and_the_bridge_is(
    folder: Path,
) -> None:
    (folder / "echo_bridge.py").write_text(CODE)
    (folder / "test_echo_bridge.py").write_text(blocks("python")[1])
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:asyncio", str(folder)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(TOP)}, capture_output=True, check=False,
        text=True,
    )  # fmt: skip
    assert "2 passed" in shown.stdout, shown.stdout + shown.stderr


@pytest.fixture
def installed(folder: Path) -> Iterator[Path]:
    """The page's package as pip leaves it."""
    project = tomllib.loads(blocks("toml")[0])
    (name,) = project["tool"]["setuptools"]["py-modules"]
    site = folder / "site"
    about = site / f"{project['project']['name'].replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (site / f"{name}.py").write_text(CODE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: trestle-echo\nVersion: 1.0\n")
    groups = project["project"]["entry-points"].items()
    (about / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
            for group, entries in groups
        )
    )
    sys.path.insert(0, str(site))
    yield site
    sys.path.remove(str(site))
    sys.modules.pop(name, None)


def test_the_package_is_listed_as_the_page_shows(installed: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "bridge", "modules"],
        cwd=TOP, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True,
        check=True, text=True,
    )  # fmt: skip
    (line,) = re.findall(r"^```\n(echo .*)\n```$", PAGE, re.MULTILINE)
    assert line in shown.stdout.splitlines()


def options(echo: EchoServer) -> dict[str, object]:
    """The page's settings of the instance, with the port of a server that is there."""
    module = dict(YAML(typ="safe").load(blocks("yaml")[0])["modules"]["near"])
    assert module.pop("module") == "echo"
    return {**module, "port": echo.port}


async def test_the_settings_in_the_page_are_accepted(installed: Path, echo: EchoServer) -> None:
    loaded = find_module("echo", "modules.near.module").load()
    assert loaded.__module__ == "echo_bridge"
    assert check_options(loaded.settings, options(echo), "modules.near").port == echo.port


@pytest_asyncio.fixture
async def app(
    town: Town,
    installed: Path,
    echo: EchoServer,
    folder: Path,
    database_settings: DatabaseSettings,
) -> AsyncIterator[App]:
    modules = make_modules({"near": ("echo", options(echo))})
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with trestle.running(settings) as started:
        yield started


async def test_a_stranger_bridges_a_room_with_it_and_it_survives_a_lost_connection(
    app: App, town: Town, echo: EchoServer
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "Hall")
    await alice.say(room, "hello\nout there")
    event = await alice.wait_for_text(room, "hello out there")
    assert event["sender"] == "@_trestle_near_echo:test.example"
    assert event["content"]["body"].startswith("alice")
    near = app.parts.instances[InstanceId("near")]
    echo.hang_up()
    await trestle.wait_until(lambda: near.state[0] is not ModuleState.RUNNING)
    await alice.say(room, "still there?")
    again = await alice.wait_for_text(room, ": still there?")
    assert again["sender"] == event["sender"]
    said = [line.split(" ", 2)[2] for line in echo.heard]
    assert [text.partition(": ")[2] for text in said] == ["hello out there\n", "still there?\n"]
