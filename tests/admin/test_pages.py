"""What back-up.md, restore.md, move-the-database.md and upgrade-postgres.md say to type."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.config import load
from bridge.settings import DatabaseSettings
from tests.admin.commands import Outcome, init, make_database, read_yaml, trestle
from tests.deploy.blocks import blocks_of
from tests.deploy.tools import TOP

PAGES = ("back-up", "restore", "move-the-database", "upgrade-postgres")
"""In the order in which somebody may need them."""


@pytest.fixture
def home() -> Iterator[Path]:
    """An installation with an embedded database, which every user may pass through."""
    made = Path(tempfile.gettempdir()) / f"trestle-pages-{os.getpid()}"
    made.mkdir(mode=0o711)
    made.chmod(0o711)
    assert init(made).code == 0
    make_database(made / "config.yaml")
    yield made
    shutil.rmtree(made)


def typed(line: str, home: Path) -> Outcome:
    """Run one line of a page for this installation."""
    line = line.replace("/var/backups/trestle/", f"{home}/")
    line = line.replace("/etc/trestle/", f"{home}/")
    name, *words = shlex.split(line)
    assert name == "trestle"
    return trestle(*words, "-c", home / "config.yaml")


def test_each_command_of_the_pages_does_what_they_say(
    home: Path, database_settings: DatabaseSettings
) -> None:
    (home / "database-url").write_text(database_settings.url)
    (home / "database-url").chmod(0o600)
    for name in PAGES:
        for block in blocks_of(TOP / "docs" / "how-to" / f"{name}.md"):
            *first, last = [typed(line, home) for line in block.lines]
            assert [one.code for one in first] == [0] * len(first), block.place
            assert last.code == block.code, f"{block.place}: {last.said}"
            if "--to-file" in block.text:
                assert load(home / "config.yaml").database.url == database_settings.url
    assert read_yaml(home / "config.yaml")["database"]["url"] == "embedded"
    assert trestle("parked", "list", "-c", home / "config.yaml").output == "Nothing is parked.\n"
