"""``trestle init`` cut short: by a signal, a full disk, or because nobody hears what it says."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config import load
from bridge.storage.masterkeys import VARIABLE
from tests.admin.commands import LIMIT, command, init, run_program, trestle
from tests.rigs.small_disk import no_room_beyond

FILES = ("config.yaml", "registration.yaml")
FLAGS = (
    "--homeserver-url", "http://127.0.0.1:8008", "--server-name", "test.example",
    "--module", "dice", "--admin", "@me:test.example",
)  # fmt: skip
CUT = """
import os, sys
from bridge.cli import main
_, number, moment, *words = sys.argv
seen = []
def cut(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("registration.yaml"):
        seen.append(True)
    if event == moment and seen == [True]:
        seen.append(False)
        os.kill(os.getpid(), int(number))
sys.addaudithook(cut)
main(prog_name="trestle", args=words)
"""
"""A program that gets a signal when one of the two files is there and the other is not yet, or
when the other is there too and its folder is opened to have it on disk."""


def cut(
    folder: Path, number: signal.Signals, *more: str, moment: str = "os.rename"
) -> "subprocess.CompletedProcess[str]":
    words = [str(int(number)), moment, "init", "--directory", str(folder), *FLAGS, *more]
    return subprocess.run(
        [sys.executable, "-c", CUT, *words], check=False, capture_output=True, text=True,
        timeout=LIMIT,
    )  # fmt: skip


@pytest.mark.parametrize("moment", ["os.rename", "open"])
def test_ctrl_c_at_the_second_file_leaves_neither(folder: Path, moment: str) -> None:
    done = cut(folder / "new", signal.SIGINT, moment=moment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert list((folder / "new").iterdir()) == []
    assert init(folder / "new").code == 0


@pytest.mark.parametrize("moment", ["os.rename", "open"])
def test_ctrl_c_while_both_are_written_over_leaves_the_two_that_belong_together(
    folder: Path, moment: str
) -> None:
    assert init(folder).code == 0
    (folder / "kept.yaml").write_bytes((folder / "config.yaml").read_bytes())
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to("kept.yaml")
    before = [(folder / name).read_bytes() for name in FILES]
    done = cut(folder, signal.SIGINT, "--force", moment=moment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert [(folder / name).read_bytes() for name in FILES] == before
    assert (folder / "config.yaml").readlink() == Path("kept.yaml")
    assert len(list(folder.glob("*.yaml*"))) == 3


def test_a_link_that_leads_nowhere_is_not_written_over_without_leave_nor_lost(
    folder: Path,
) -> None:
    config = folder / "config.yaml"
    config.symlink_to("not-mounted/config.yaml")
    assert "holds config.yaml already" in init(folder).errors
    for room in (10, 500):  # None for the first file, and for the first alone.
        with no_room_beyond(room):
            assert init(folder, "--force").code == 2
        assert config.readlink() == Path("not-mounted/config.yaml")
    assert [one.name for one in folder.iterdir()] == ["config.yaml"]
    assert init(folder, "--force").code == 0
    assert load(config).state_dir == folder / "state"


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_a_files_place_is_neither_read_nor_taken_away(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    refused = run_program("init", "--directory", folder, *FLAGS, "--force")
    assert (refused.code, refused.output) == (2, "")
    assert "cannot be written" in refused.errors
    assert [one.name for one in folder.iterdir()] == [name]
    assert (folder / name).is_fifo()


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
    # What was being written when it was killed stays under a name of its own.
    assert sorted(path.name for path in folder.glob("*.yaml")) == list(FILES)


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


def test_a_key_that_is_none_is_said_before_anything_is_written(folder: Path) -> None:
    key = folder / "state" / "keys" / "master"
    key.parent.mkdir(parents=True)
    key.write_text("damaged")
    refused = init(folder)
    assert (refused.code, refused.output) == (2, "")
    assert str(key) in refused.errors
    assert [one.name for one in folder.iterdir()] == ["state"]


def test_without_state_no_key_is_read(folder: Path) -> None:
    key = folder / "state" / "keys" / "master"
    key.parent.mkdir(parents=True)
    key.write_text("damaged")  # Or the service user's.
    made = init(folder, "--no-state")
    assert (made.code, made.errors) == (0, "")
    assert f"The first start makes {key}" in made.output
    assert "app_service_config_files" in made.output
    given = run_program(
        "init", "--directory", folder / "new", *FLAGS, "--no-state", env={VARIABLE: "damaged"}
    )
    assert (given.code, given.errors) == (0, "")
    assert "master" not in given.output


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
