"""Every command in the README and in the pages is run: the way its comment says, or a failure."""

import os
import re
import shlex
import shutil
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ruamel.yaml import YAML

from bridge.config import load, read_settings
from bridge.manual.events import log_lines
from bridge.settings.records import Settings, keys_of
from tests.admin.commands import init, read_yaml, trestle
from tests.deploy.blocks import Block, bare_blocks, blocks_of
from tests.deploy.bridging import bridge_as_told
from tests.deploy.conftest import Fresh
from tests.deploy.ground import Ground
from tests.deploy.tools import DEPLOY, TOP, run
from tests.rigs.ngircd import run_ngircd

PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
ALERTS = sorted(path.stem for path in (TOP / "docs/how-to/alerts").glob("*.md"))

LIFE = (
    ("install", 0, 4), ("register-synapse", 0, 9), ("install", 4, 9), ("bridge-irc", 0, 9),
    ("register-others", 0, 9), ("watch", 0, 9), ("doctor", 0, 9),
    *((f"alerts/{name}", 0, 9) for name in ALERTS), ("rotate-tokens", 0, 9),
    ("upgrade", 0, 9), ("remove", 0, 9),
)  # fmt: skip
"""An installation from its first day to its last: pages, and from which block to which."""


def blocks(kind: str) -> list[Block]:
    return [one for page in PAGES for one in blocks_of(page) if one.kind == kind]


def life_of(page: str) -> list[Block]:
    found = blocks_of(TOP / f"docs/how-to/{page}.md")
    return [one for one in found if one.kind == "life"]


def test_every_block_says_how_it_is_run() -> None:
    silent = []
    for page in PAGES:
        for block in blocks_of(page):
            known = block.kind in {"life", *CHECKS} or _is_run_elsewhere(block)
            if not known:
                silent.append(f"{block.place}: {block.kind or 'no comment before it'}")
    assert silent == []


def test_no_command_hides_in_a_block_that_does_not_say_what_it_is() -> None:
    command = re.compile(
        r"\s*([\d*/,-]+( +[\d*/,-]+){4} +\S+ +)?(trestle|systemctl|journalctl|curl|docker|pip) "
    )
    # The reference of the command line shows how each is spelled.
    pages = [page for page in PAGES if page.name != "cli.md"]
    hidden = [
        f"{page.name}: {line}"
        for page in pages
        for text in bare_blocks(page)
        for line in text.splitlines()
        if command.match(line)
    ]
    assert hidden == []


def _is_run_elsewhere(block: Block) -> bool:
    """Whether the comment names a test file that is about this page."""
    file = TOP / block.kind
    if not re.fullmatch(r"tests/[\w/]+\.py", block.kind) or not file.is_file():
        return False
    text = file.read_text()
    return block.page.name in text or "first_hour" in text


def test_every_page_with_a_part_of_the_life_has_its_place_in_it() -> None:
    told = {(page, at) for page, first, end in LIFE for at in range(first, end)}
    for page in (TOP / "docs").rglob("*.md"):
        name = str(page.relative_to(TOP / "docs/how-to")) if "how-to" in page.parts else ""
        for at, block in enumerate([one for one in blocks_of(page) if one.kind == "life"]):
            assert (name.removesuffix(".md"), at) in told, block.place


@pytest_asyncio.fixture
async def ground(fresh: Fresh, folder: Path) -> AsyncIterator[Ground]:
    """A machine with a homeserver, and the program where the page would install it."""
    async with run_ngircd() as irc:
        made = Ground(folder, fresh.folder, irc.port)
        # The first commands of the page find it done: it takes a minute, and the README's had it.
        move_in(fresh.folder / ".venv", made.place("/opt/trestle"))
        await made.start_synapse()
        try:
            yield made
        finally:
            await made.close()


def move_in(venv: Path, place: Path) -> None:
    """Have the venv at another place too; its scripts name their own."""
    shutil.copytree(venv, place, symlinks=True, copy_function=os.link)
    for script in (place / "bin").iterdir():
        data = script.read_bytes() if not script.is_symlink() else b""
        if os.fsencode(venv) in data:
            script.unlink()
            script.write_bytes(data.replace(os.fsencode(venv), os.fsencode(place)))
            script.chmod(0o755)


@pytest.mark.timeout(900)
async def test_an_installation_lives_as_the_pages_tell(ground: Ground) -> None:
    looked_at: set[str] = set()
    for page, first, end in LIFE:
        for at, block in list(enumerate(life_of(page)))[first:end]:
            # Alerts change nothing: what was asked for one of them need not be asked again.
            if page.startswith("alerts/") and block.text in looked_at:
                continue
            looked_at.add(block.text)
            said = await ground.run(block)
            assert "BAD" not in said, f"{block.place}:\n{said}"
            by_hand = BY_HAND.get((page, at))
            if by_hand is not None:
                await by_hand(ground, said)
    assert [path for path in ground.folder.rglob("*") if "trestle" in path.name] == []
    assert ground.users() == []


async def put_tokens_in(ground: Ground, said: str) -> None:
    """What the page has the admin do with the two tokens that were printed."""
    made = dict(line.split(": ") for line in said.splitlines())
    text = ground.config.read_text()
    text = re.sub(r"(?m)^  hs_token: ", "  hs_token_old: ", text)
    text = re.sub(r"(?m)^  as_token: .*$", f"  as_token: {made['as_token']}", text)
    text = text.replace("appservice:\n", f"appservice:\n  hs_token: {made['hs_token']}\n")
    ground.config.write_text(text)
    assert len(load(ground.config).appservice.hs_tokens) == 2


async def take_the_old_out(ground: Ground, said: str) -> None:
    """What the page has the admin do at last."""
    text = ground.config.read_text()
    ground.config.write_text(re.sub(r"(?m)^  hs_token_old: .*\n", "", text))


BY_HAND: dict[tuple[str, int], Callable[[Ground, str], Awaitable[None]]] = {
    ("bridge-irc", 0): bridge_as_told,
    ("rotate-tokens", 0): put_tokens_in,
    ("rotate-tokens", 2): take_the_old_out,
}
"""What a page has people do in between, by the block behind which it stands."""


def test_a_stranger_finds_every_page_from_the_index() -> None:
    found: set[Path] = set()
    waiting = [TOP / "README.md"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text()):
            file = (page.parent / target).resolve()
            files = sorted(file.glob("*.md")) if file.is_dir() else [file]
            waiting += [one for one in files if one.suffix == ".md" and one not in found]
    assert [path for path in (TOP / "docs").rglob("*.md") if path not in found] == []


def test_the_settings_in_the_pages_are_settings(folder: Path) -> None:
    assert init(folder).code == 0
    given = read_yaml(folder / "config.yaml")
    seen = 0
    for page in (TOP / "docs/how-to").rglob("*.md"):
        for text in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), re.M | re.S):
            shown = YAML(typ="safe").load(textwrap.dedent(text))
            if shown.keys() <= keys_of(Settings).keys():
                modules = {"modules": {"libera": LIBERA}}
                read_settings({**given, **modules, **shown}, folder=folder)
                seen += 1
    assert seen >= 3


BACKUPS = "/var/backups/trestle"
LIBERA = {"module": "irc", "servers": [{"host": "irc.example.org"}]}


# --- what needs more than a machine in a folder --------------------------------------------------


@cache
def events() -> set[str]:
    """What the program can log; all of the code is read for that."""
    return {line.event for line in log_lines()}


@pytest.mark.parametrize("block", blocks("service"), ids=lambda block: block.place)
def test_what_is_asked_of_the_journal_is_asked_rightly(block: Block, folder: Path) -> None:
    for line in block.lines:
        asked, _, filtered = line.partition(" | ")
        words = [word for word in shlex.split(asked) if word != "-f"]
        match words:
            case ["journalctl", "-u", "trestle", *rest]:
                run("journalctl", "--directory", folder, "-u", "trestle", *rest)
            case ["systemctl", "status" | "restart" | "reload", "trestle"]:
                assert (DEPLOY / "systemd/trestle.service").exists()
            case _:
                raise AssertionError(line)
        for pattern in [word for word in filtered.split()[1:] if word != "-e"]:
            assert pattern in events(), line


@pytest.mark.parametrize("block", blocks("docker"), ids=lambda block: block.place)
def test_what_docker_is_told_is_in_the_compose_file(block: Block) -> None:
    for line in block.lines:
        check_docker_line(line)


def test_what_the_other_pages_say_has_its_words_in_a_container() -> None:
    page = TOP / "docs/how-to/run-in-a-container.md"
    rows = re.findall(r"(?m)^\| `?(\w+).* \| `(docker [^`]+)` \|$", page.read_text())
    assert {"runuser", "systemctl", "journalctl", "trestle"} <= {there for there, _ in rows}
    for _, line in rows:
        check_docker_line(line)


def check_docker_line(line: str) -> None:
    """It is one that the compose file has something for; what Trestle is told, it takes."""
    compose = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())
    typed = line.partition(" > ")[0].rpartition(" && ")[2]
    match shlex.split(typed):
        case ["docker", "network", "create", name]:
            assert compose["networks"] == {name: {"external": True}}
        case ["docker", "compose", "-f", "deploy/compose.yaml", "up", "-d", "--build"]:
            pass
        case ["docker", "compose", "-f", "deploy/compose.yaml", "cp", source, _]:
            service, _, path = source.partition(":")
            assert path.startswith(places_in(compose["services"][service])["state"])
        case ["docker", "compose", "-f", "deploy/compose.yaml", action, *words]:
            at = words.index("trestle")
            assert (action, *words[:at]) in DOCKER, line
            inner = words[at + 1 :]
            if action == "exec":
                assert inner.pop(0) == "trestle"
            if inner:
                taken = trestle(*inner, "--help")
                assert taken.code == 0, taken.said
        case _:
            raise AssertionError(line)


DOCKER = {
    ("exec",), ("exec", "-T"), ("logs", "-f"), ("logs", "-n", "200"), ("ps",), ("restart",),
    ("run", "--rm"), ("start",), ("stop",),
}  # fmt: skip
"""What is asked of compose, before the name of the service."""


def places_in(service: dict[str, Any]) -> dict[str, str]:
    """Where a service has what is mounted, by its name outside."""
    pairs = (volume.split(":") for volume in service["volumes"])
    return {outside.removeprefix("./"): inside for outside, inside, *_ in pairs}


def test_a_page_with_commands_of_a_server_says_where_those_of_a_container_are() -> None:
    others = {"install", "prove", "run-in-a-container"}
    silent = []
    for page in sorted((TOP / "docs/how-to").rglob("*.md")):
        text = page.read_text()
        of_a_server = re.search(r"(?m)^ *(runuser|systemctl|journalctl|trestle) ", text)
        told = "run-in-a-container.md#the-other-pages" in text
        if of_a_server and not told and page.stem not in others:
            silent.append(page.name)
    assert silent == []


@pytest.mark.parametrize("block", blocks("container"), ids=lambda block: block.place)
def test_the_settings_of_the_container_are_made(block: Block, folder: Path) -> None:
    make, *owners = block.lines
    words = shlex.split(make.replace("--directory deploy/settings", f"--directory {folder}"))
    assert words[0] == "trestle"
    made = trestle(*words[1:])
    assert made.code == 0, made.said
    assert "Keep a copy of /" not in made.output  # The key of this machine is another.
    settings = load(folder / "config.yaml")
    (user,) = re.findall(r"^USER (\d+):", (TOP / "Dockerfile").read_text(), re.MULTILINE)
    assert owners[0] == f"chown -R {user} deploy/settings"
    assert owners[1] == f"install -d -o {user} -m 700 deploy/backups"
    compose = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())
    (name,) = compose["services"]
    assert settings.appservice.url == f"http://{name}:{settings.appservice.listen.port}"
    assert settings.appservice.listen.host == "0.0.0.0"  # noqa: S104 - The container's own.
    assert places_in(compose["services"][name]) == {
        "settings": "/etc/trestle", "backups": BACKUPS, "state": str(settings.state_dir),
    }  # fmt: skip


@pytest.mark.parametrize("block", blocks("make"), ids=lambda block: block.place)
def test_what_make_is_asked_for_is_a_target(block: Block) -> None:
    targets = set(re.findall(r"^(\w+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    for line in block.lines:
        word, target = line.split()
        assert word == "make"
        assert target in targets


CHECKS = {"service", "docker", "container", "make"}
"""Kinds of blocks that a test of their own checks."""
