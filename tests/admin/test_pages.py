"""What pages of the how-to say to type: back-up.md, restore.md, move-the-database.md,
upgrade-postgres.md, own-data.md.

It is typed as it stands there, on a server that install.md has made.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.settings.records import DatabaseSettings
from tests.deploy.blocks import blocks_of
from tests.deploy.layout import CONFIG, Layout, laid_out
from tests.deploy.tools import TOP
from tests.rigs.cluster import Cluster

PAGES = ("back-up", "restore", "move-the-database", "upgrade-postgres", "own-data")
"""In the order in which somebody may need them."""
BACKUPS = "/var/backups/trestle"
AS_TRESTLE = "runuser -u trestle -- trestle"


@pytest.fixture
def server(folder: Path) -> Iterator[Layout]:
    with laid_out(folder) as made:
        yield made


def lose_the_machine(server: Layout) -> None:
    """A new machine has what the first steps of install.md make, and the backup in its hands."""
    server.run(f"mv {BACKUPS}/today.trestle . && rm -r {BACKUPS} /var/lib/trestle /etc/trestle/*")


def edit_as_told(server: Layout, said: str) -> None:
    """Put the lines that were printed where they were said to belong."""
    (lines,) = re.findall(r"(?m)^database:\n(?:  .*\n)+", said)
    config = server.run(f"cat {CONFIG}").output
    changed = re.sub(r"(?m)^database:\n(?:  .*\n)+", lines, config)
    server.run(f"printf %s {shlex.quote(changed)} > {CONFIG}")


def back_up_as_root(server: Layout) -> None:
    """What root makes, beside the service, is the service's user's: that one is to restore it."""
    server.run(f"trestle backup {BACKUPS}/roots.trestle -c {CONFIG}")
    made = f"{BACKUPS}/roots.trestle /var/lib/trestle/last-backup"
    told = server.run(f"stat -c '%U %G %a' {made}").output
    assert told == "trestle trestle 600\n" * 2
    server.run(f"{AS_TRESTLE} restore --check {BACKUPS}/roots.trestle")


def ask_for_what_would_show_a_password(server: Layout) -> None:
    """Who may not write the settings is told what belongs there, but no password."""
    url = "postgresql://trestle:s3cret@db.example/trestle"
    refused = server.run(f"{AS_TRESTLE} database move --to {url} -c {CONFIG}", code=2)
    assert "this user may not write" in refused.errors
    assert "name the file with --to-file" in refused.errors
    assert "s3cret" not in refused.said


def before(server: Layout, url: str) -> dict[tuple[str, int], Callable[[], object]]:
    """What there is, or is done, before a block of a page."""
    return {
        ("restore", 1): lambda: lose_the_machine(server),
        ("move-the-database", 2): lambda: back_up_as_root(server),
        ("upgrade-postgres", 0): lambda: ask_for_what_would_show_a_password(server),
        ("move-the-database", 1): lambda: server.run(
            f"printf %s {shlex.quote(url)} > /etc/trestle/database-url"
        ),
    }


def test_each_command_of_the_pages_does_what_they_say(
    server: Layout, cluster: Cluster, database_settings: DatabaseSettings
) -> None:
    at_first = before(server, cluster.by_tcp(database_settings).url)
    for name in PAGES:
        for at, block in enumerate(blocks_of(TOP / "docs" / "how-to" / f"{name}.md")):
            if block.kind != "tests/admin/test_pages.py":
                continue
            at_first.get((name, at), lambda: None)()
            if block.language == "cron":
                assert server.cron(block.text).startswith(f"Wrote {BACKUPS}/night.trestle")
                continue
            said = server.type(block)
            if "database move" in block.text:
                edit_as_told(server, said)
                told = server.run(f"grep -A1 ^database: {CONFIG}").output
                assert ("database-url" in told) == ("--to-file" in block.text)
    assert f"`-c {CONFIG}` names the service's" in server.run("trestle status", code=2).errors
    assert server.run(f"{AS_TRESTLE} parked list -c {CONFIG}").output == "Nothing is parked.\n"


def test_what_root_may_not_look_at_while_trestle_is_stopped_is_no_fault(server: Layout) -> None:
    def told(typed: str) -> str:
        said = server.run(f"{typed} doctor -c {CONFIG}", code=1).output  # There is no homeserver.
        (line,) = [one for one in said.splitlines() if one[5:].startswith("database: ")]
        return line

    assert told(AS_TRESTLE).startswith("ok   database: Postgres")
    roots = told("trestle")
    assert roots.startswith("note database: ")
    assert "`runuser -u trestle -- trestle doctor ...` looks at it" in roots


def test_what_the_old_bridge_keeps_to_itself_is_copied_for_an_import(server: Layout) -> None:
    theirs = "/etc/heisenbridge"
    server.run(f"mkdir -m 700 {theirs} && cp /etc/trestle/registration.yaml {theirs}/")
    copy, look, *_ = [one for b in blocks_of(TOP / "docs/how-to/import.md") for one in b.lines]
    server.run(copy)
    # It has read all that it must, and comes as far as the homeserver, which is nowhere.
    assert "homeserver" in server.run(look, code=1).errors
