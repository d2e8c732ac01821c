"""``backup``, ``restore`` and ``database`` as an admin uses them."""

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from bridge.settings.records import DatabaseSettings
from bridge.storage.backup import last_backup
from bridge.storage.pool import AtWork, only_one
from bridge.storage.postgres import version_of
from bridge.storage.schema import migrations
from tests.admin.commands import LIMIT, command, init, make_database, read_yaml, trestle
from tests.rigs.scale import chance, scaled
from tests.storage.disks import small_disk


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An installation with an embedded database. Whoever changes its state works on a copy."""
    made = Path(tempfile.gettempdir()) / f"trestle-home-{os.getpid()}"
    made.mkdir(mode=0o711)
    made.chmod(0o711)
    assert init(made).code == 0
    assert "embedded" in read_yaml(made / "config.yaml")["database"]["url"]
    make_database(made / "config.yaml")
    shown = trestle("parked", "list", "-c", made / "config.yaml")
    assert "Nothing is parked" in shown.output
    (made / "state/keys/master").write_bytes(b"m" * 32)
    yield made
    shutil.rmtree(made)


def config(home: Path) -> tuple[str, Path]:
    return "-c", home / "config.yaml"


def put_settings(folder: Path, text: str, state_dir: Path) -> None:
    """Have these settings there, with the state elsewhere."""
    changed, times = re.subn(r"(?m)^state_dir: .*$", f"state_dir: {state_dir}", text)
    assert times == 1
    (folder / "config.yaml").write_text(changed)
    (folder / "config.yaml").chmod(0o600)


def test_the_worst_night_from_beginning_to_end(home: Path, folder: Path) -> None:
    file = folder / "night.trestle"
    wrote = trestle("backup", file, "--with-config", *config(home))
    assert wrote.code == 0, wrote.said
    assert f"Wrote {file}" in wrote.output
    assert "The master key is inside: whoever has the file" in wrote.output
    assert last_backup(home / "state") is not None
    assert trestle("restore", "--check", file).output.startswith(f"{file} is whole: 2 rows of ")
    # Another machine, where nothing is.
    there = folder / "there"
    restored = trestle("restore", file, "--with-config", "-c", there / "config.yaml")
    assert restored.code == 0, restored.said
    assert "This is generation 2" in restored.output
    assert f"Next: run `trestle doctor -c {there / 'config.yaml'}`" in restored.output
    for name in ("config.yaml", "registration.yaml"):
        assert (there / name).read_bytes() == (home / name).read_bytes()
        assert stat.S_IMODE((there / name).stat().st_mode) == 0o600
    assert (there / "state/keys/master").read_bytes() == b"m" * 32
    assert "the audit is whole" in trestle("doctor", "-c", there / "config.yaml").output
    # Once more, over what is there now.
    refused = trestle("restore", file, "-c", there / "config.yaml")
    assert (refused.code, "--force restores, and keeps" in refused.errors) == (1, True)
    # With the settings, where the admin has changed them since: not while Trestle runs.
    edited = (there / "config.yaml").read_bytes() + b"# mine\n"
    (there / "config.yaml").write_bytes(edited)
    whole = ("restore", "--force", "--with-config", "--json", file, "-c", there / "config.yaml")
    with only_one(there / "state"):
        for _ in range(2):
            assert "another Trestle is at work" in trestle(*whole).errors
    assert (there / "config.yaml").read_bytes() == edited
    assert list(there.glob("*.before-*")) == []
    (there / "config.yaml.before-restore").write_text("of an earlier night")
    again = trestle(*whole)
    told = json.loads(again.output)
    assert (there / "config.yaml").read_bytes() == (home / "config.yaml").read_bytes()
    assert (there / "config.yaml.before-restore").read_text() == "of an earlier night"
    assert (there / "config.yaml.before-restore.2").read_bytes() == edited
    assert told["config_aside"][0] == str(there / "config.yaml.before-restore.2")
    assert Path(told["aside"], "postgres/data/PG_VERSION").exists()
    assert told["generation"] == 2


def test_what_is_not_inside_is_said(home: Path, folder: Path) -> None:
    wrote = trestle(
        "backup", folder / "x", "--without-master-key", "--without-day-keys", *config(home)
    )
    assert "The master key is not inside: keep a copy of it elsewhere." in wrote.output
    assert "read only where the state directory still has them" in wrote.output
    assert "config.yaml and registration.yaml are not inside" in wrote.output
    told = json.loads(trestle("backup", folder / "y", "--json", *config(home)).output)
    newest = migrations()[-1][0]
    assert (told["master_key"], told["config"], told["schema"]) == (True, False, newest)
    lacking = trestle("restore", folder / "x", "--with-config", "-c", folder / "none.yaml")
    assert "made without --with-config" in lacking.errors


def test_a_file_that_is_there_a_folder_and_a_place_that_is_not_are_refused(
    home: Path, folder: Path
) -> None:
    (folder / "there").write_text("mine, and longer than the head of a zip's member is")
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(folder / "real")
    assert trestle("backup", folder / "link", *config(home)).code == 0
    whole = (folder / "real").read_bytes()
    for place, force, words in (
        (folder / "real", "", "--force writes over it"),
        (folder / "there", "--force", "is there already, and is no backup"),
        (folder / "fifo", "--force", "is no file that can be"),
        (folder, "--force", "is a folder"),
        (folder / "no/where", "", "cannot be written: No such file or directory"),
    ):
        refused = trestle("backup", place, *filter(None, [force]), *config(home))
        assert (refused.code, words in refused.errors) == (1, True), refused.said
    assert (folder / "there").read_text().startswith("mine")
    assert (folder / "fifo").is_fifo()
    assert (folder / "real").read_bytes() == whole
    (folder / "real").write_bytes(whole[:500])  # A damaged one may be written over.
    assert trestle("backup", folder / "link", "--force", *config(home)).code == 0
    assert (folder / "link").is_symlink()
    assert len((folder / "real").read_bytes()) > 500


def test_what_the_settings_name_in_files_is_in_no_backup(home: Path, folder: Path) -> None:
    text, token = (home / "config.yaml").read_text(), folder / "token"
    token.write_text(read_yaml(home / "config.yaml")["appservice"]["as_token"])
    token.chmod(0o600)
    named = re.sub(r"(?m)^  as_token: .*$", f"  as_token_file: {token}", text)
    put_settings(folder, named, home / "state")
    wrote = trestle("backup", folder / "x", "--with-config", *config(folder))
    assert wrote.code == 0, wrote.said
    with zipfile.ZipFile(folder / "x") as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    assert b"as_token_file" in inside["settings/config.yaml"]
    assert not [name for name, data in inside.items() if token.read_bytes() in data]


def test_whoever_does_not_have_the_state_restores_nothing_there(home: Path, folder: Path) -> None:
    assert trestle("backup", folder / "x", *config(home)).code == 0
    theirs = folder / "theirs"
    theirs.mkdir()
    if os.geteuid() == 0:
        os.chown(theirs, 65534, 65534)
    else:
        theirs = Path("/usr/share")
    before = sorted(theirs.iterdir())
    put_settings(folder, (home / "config.yaml").read_text(), theirs)
    for force in ((), ("--force",)):
        refused = trestle("restore", *force, folder / "x", *config(folder))
        assert (refused.code, "run this as that user" in refused.errors) == (2, True), refused.said
        assert sorted(theirs.iterdir()) == before


def test_a_restore_under_another_name_is_refused(home: Path, folder: Path) -> None:
    assert trestle("backup", folder / "x", *config(home)).code == 0
    other = (home / "config.yaml").read_text().replace("test.example", "other.example")
    (folder / "config.yaml").write_text(other)
    (folder / "config.yaml").chmod(0o600)
    refused = trestle("restore", folder / "x", *config(folder))
    assert "is of a Trestle at test.example, but" in refused.errors
    assert not (folder / "state").exists()


def test_a_backup_of_nothing_says_so(folder: Path) -> None:
    assert init(folder).code == 0
    refused = trestle("backup", folder / "x", *config(folder))
    assert "there is no embedded database in" in refused.errors
    assert not (folder / "x").exists()


def test_a_full_disk_leaves_the_old_state(home: Path, folder: Path) -> None:
    assert trestle("backup", folder / "x", *config(home)).code == 0
    with small_disk(folder / "disk", 24 << 20) as disk:
        assert init(disk).code == 0
        (disk / "state/postgres/data").mkdir(parents=True)
        (disk / "state/postgres/data/PG_VERSION").write_text("18\n")
        refused = trestle("restore", "--force", folder / "x", *config(disk))
        # Where we may make no such disk, the server alone hits the limit.
        code, words = (
            (1, "is full. Everything is as it was") if disk.is_mount()
            else (os.EX_TEMPFAIL, "the embedded database cannot be made")
        )  # fmt: skip
        assert (refused.code, words in refused.errors) == (code, True), refused.said
        left = sorted(p.name for p in (disk / "state").iterdir())
        assert left == ["keys", "lock", "postgres"]
        assert (disk / "state/postgres/data/PG_VERSION").read_text() == "18\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_restore_that_is_ended_anywhere_leaves_a_state_that_opens(
    home: Path, folder: Path, number: signal.Signals
) -> None:
    assert trestle("backup", folder / "x", "--with-config", *config(home)).code == 0
    there = folder / "there"
    shutil.copytree(home, there, symlinks=True)
    subprocess.run(["cp", "-a", f"{home}/state/.", f"{there}/state"], check=True)
    (there / "state/theirs").write_text("no part of the state")
    dice, cut, said = chance(f"restores ended by {number.name}"), 0, set[str]()
    while cut < scaled(50):
        ending = subprocess.Popen(
            command("restore", "--force", "--with-config", folder / "x", *config(there)),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        wait_until_at_work(ending, there / "state")
        time.sleep(dice.uniform(0, 0.6))  # Of about a second that it takes from then on.
        ending.send_signal(number)
        errors = ending.communicate(timeout=60)[1].decode()
        code = ending.returncode
        assert code in (0, -number, 130)
        said.add(errors if code else "")
        cut += code != 0
        if number == signal.SIGINT:
            assert not (there / "state/incoming").exists()
        wait_until_let_go(there / "state")
        shown = trestle("parked", "list", *config(there))  # It opens the state.
        assert shown.output == "Nothing is parked.\n", shown.said
        shown = trestle("doctor", *config(there))
        assert "the audit is whole" in shown.output, shown.said
        assert not (there / "state/incoming").exists()
    assert (there / "state/theirs").read_text() == "no part of the state"
    told = "trestle: cut off. Everything is as it was\n" if number == signal.SIGINT else ""
    assert told in said
    assert said <= {"", told}


def wait_until_at_work(restore: "subprocess.Popen[bytes]", state: Path) -> None:
    """Return when it has begun to change something."""
    end = time.monotonic() + LIMIT
    while not (state / "incoming").exists():
        assert restore.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)


def wait_until_let_go(state: Path) -> None:
    """Return when nobody holds it: a child that is just being made does, for a moment longer."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            with only_one(state):
                return
        except AtWork:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_move_changes_the_config_once_all_is_there(
    home: Path, folder: Path, database_settings: DatabaseSettings
) -> None:
    url = database_settings.url
    there = folder / "there"
    subprocess.run(["cp", "-a", home, there], check=True)
    text = (there / "config.yaml").read_text() + "# the admin's own words\n"
    (there / "config.yaml").write_text(text)

    def run(*words: object) -> str:
        return trestle(*words, *config(there)).said

    (folder / "url").write_text(url)
    (folder / "url").chmod(0o600)
    moved = run("database", "move", "--to-file", folder / "url")
    assert "each is there as it was" in moved, moved
    assert f"The old database is left in {there}/state/postgres" in moved
    assert read_yaml(there / "config.yaml")["database"] == {"url_file": f"{folder}/url"}
    assert (there / "config.yaml").read_text().endswith("# the admin's own words\n")
    assert "that database is the one in use already" in run("database", "move", "--to", url)
    assert "whoever runs it brings it" in run("database", "upgrade")
    back = run("database", "move", "--to", "embedded")
    assert "The old database was left as it is" in back, back
    assert (there / "config.yaml").read_text() == text
    assert version_of(there / "state") == "18"
    assert "is of this version already" in run("database", "upgrade")
    assert "must be `embedded` or begin with" in run("database", "move", "--to", "mysql://x")


async def until_sessions(url: str, condition: str) -> None:
    """Return when that holds for what others do in the database."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(LIMIT):
            while not await connection.fetchval(f"SELECT {condition} {others}"):
                await asyncio.sleep(0.002)
    finally:
        await connection.close()


def test_a_move_that_is_killed_leaves_all_as_it_was_and_is_made_again(
    home: Path, folder: Path, database_settings: DatabaseSettings
) -> None:
    url, there = database_settings.url, folder / "there"
    subprocess.run(["cp", "-a", home, there], check=True)
    text = (there / "config.yaml").read_text()
    moving = subprocess.Popen(
        command("database", "move", "--to", url, *config(there)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        asyncio.run(until_sessions(url, "bool_or(backend_xid IS NOT NULL)"))
    finally:
        moving.kill()
    assert moving.wait(60) == -signal.SIGKILL
    wait_until_let_go(there / "state")
    assert (there / "config.yaml").read_text() == text
    assert trestle("parked", "list", *config(there)).output == "Nothing is parked.\n"
    asyncio.run(until_sessions(url, "count(*) = 0"))  # The server hears of it a moment later.
    moved = trestle("database", "move", "--to-file", "-", *config(there), answers=f"{url}\n")
    assert moved.code == 0, moved.said
    assert read_yaml(there / "config.yaml")["database"] == {"url": url}
    assert stat.S_IMODE((there / "config.yaml").stat().st_mode) == 0o600
    assert trestle("parked", "list", *config(there)).output == "Nothing is parked.\n"
