"""``trestle init`` cut short: by a signal, a full disk, or because nobody hears what it says."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from bridge.config import load
from tests.admin.commands import LIMIT, command, init, trestle
from tests.rigs.small_disk import no_room_beyond

FILES = ("config.yaml", "registration.yaml")
FLAGS = (
    "--homeserver-url", "http://127.0.0.1:8008", "--server-name", "test.example",
    "--module", "dice", "--admin", "@me:test.example",
)  # fmt: skip
CUT = """
import os, sys
from bridge.cli import main
def cut(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("registration.yaml"):
        os.kill(os.getpid(), int(sys.argv.pop(1)))
sys.addaudithook(cut)
main(prog_name="trestle", args=sys.argv[2:])
"""
"""A program that gets a signal when one of the two files is there and the other is not yet."""


def cut(folder: Path, number: signal.Signals) -> "subprocess.CompletedProcess[str]":
    words = [str(int(number)), "init", "--directory", str(folder), *FLAGS]
    return subprocess.run(
        [sys.executable, "-c", CUT, *words], check=False, capture_output=True, text=True,
        timeout=LIMIT,
    )  # fmt: skip


def test_ctrl_c_between_the_two_files_leaves_neither(folder: Path) -> None:
    done = cut(folder / "new", signal.SIGINT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert list((folder / "new").iterdir()) == []
    assert init(folder / "new").code == 0


def test_killed_between_the_two_files_it_says_how_to_have_the_other(folder: Path) -> None:
    done = cut(folder, signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / "registration.yaml").exists()
    again = init(folder)
    assert again.code == 2
    assert "config.yaml already; `trestle registration` makes the other one" in again.errors
    assert trestle("registration", "-c", folder / "config.yaml").code == 0
    settings = load(folder / "config.yaml")
    assert settings.appservice.as_token.reveal() in (folder / "registration.yaml").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "registration.yaml"]


def test_a_disk_with_room_for_one_of_the_two_files_has_neither(folder: Path) -> None:
    assert init(folder).code == 0
    before = [(folder / name).read_bytes() for name in FILES]
    assert len(before[0]) + 20 < len(before[1])
    for place, flags in ((folder / "new", ()), (folder, ["--force"])):
        with no_room_beyond(len(before[0]) + 10):
            full = init(place, *flags)
        assert (full.code, "cannot be written: File too large" in full.errors) == (2, True)
    assert list((folder / "new").iterdir()) == []
    assert init(folder / "new").code == 0
    assert [(folder / name).read_bytes() for name in FILES] == before


def test_a_key_that_cannot_be_made_now_is_not_passed_over_in_silence(folder: Path) -> None:
    (folder / "state").touch()  # There can be nothing in it.
    made = init(folder)
    assert made.code == 0
    assert f"The first start makes {folder / 'state' / 'keys' / 'master'}" in made.output


def test_who_is_not_heard_has_made_all_of_it(folder: Path) -> None:
    unread, pipe = os.pipe()
    os.close(unread)
    try:
        done = subprocess.run(
            command("init", "--directory", folder, *FLAGS), check=False, stdout=pipe,
            stderr=subprocess.PIPE, text=True, timeout=LIMIT,
        )  # fmt: skip
    finally:
        os.close(pipe)
    assert (done.returncode, done.stderr) == (1, "")
    assert (folder / "state" / "keys" / "master").exists()
    assert load(folder / "config.yaml").state_dir == folder / "state"
