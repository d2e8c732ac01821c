"""Where what is printed cannot go: closed, full, or read by nobody."""

import os
import re
import subprocess
from pathlib import Path

import click
import pytest

from tests.admin.commands import LIMIT, command, init, run_program, typed

CLOSED = "standard output is closed, so nobody would have the answer: leave it open"


def ended(*words: object, into: str) -> tuple[int, str]:
    """How a command ends whose output goes there, and what it says of that."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {into}', "sh", *command(*words)], check=False, timeout=LIMIT,
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words",
    ["keys new", "modules", "status -c", "config show -c", "config upgrade --diff -c",
     "registration -o - -c"],
)  # fmt: skip
def test_what_is_run_for_what_it_shows_is_refused_with_nowhere_to_show_it(
    words: str, folder: Path
) -> None:
    init(folder)
    more = [str(folder / "config.yaml")] if words.endswith("-c") else []
    code, said = ended(*words.split(), *more, into=">&-")
    assert (code, CLOSED in said) == (1, True), said


def test_what_is_run_for_what_it_does_is_done_with_nowhere_to_show_it(folder: Path) -> None:
    assert init(folder).code == 0
    config, file = folder / "config.yaml", folder / "registration.yaml"
    file.unlink()
    assert ended("registration", "-c", config, into=">&-") == (0, "")
    assert file.exists()


def test_of_a_key_that_could_not_be_printed_it_is_said_that_nobody_has_it() -> None:
    code, said = ended("keys", "new", into="> /dev/full")
    assert (code, said.count("\n")) == (1, 1), said
    assert f"{os.strerror(28)}. It is kept nowhere; make another" in said


def test_of_what_could_not_be_printed_it_is_said_that_it_is_the_output_that_is_full() -> None:
    code, said = ended("modules", into="> /dev/full")
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith(f"trestle: standard output cannot be written: {os.strerror(28)}.")


def test_a_character_for_which_a_terminal_has_no_sign_is_shown_by_its_number(
    folder: Path,
) -> None:
    assert init(folder).code == 0
    (folder / "config.yaml").rename(config := folder / "☃.yaml")
    for encoding in ("latin-1", "cp1252"):
        shown = run_program(
            "config", "check", "-c", config, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        )
        assert (shown.code, "/\\u2603.yaml is right" in shown.output) == (0, True), shown.said


def shown_at(columns: int, *words: object) -> str:
    """What stands on a terminal that is so wide when the command is over."""
    sized = ["sh", "-c", f'stty cols {columns}; unset COLUMNS; exec "$@"', "sh"]
    with typed([*sized, *map(str, words)]) as terminal:
        terminal.end()
        return terminal.shown


def test_what_the_doctor_says_is_wrapped_on_a_screen_and_one_line_for_a_program(
    folder: Path,
) -> None:
    assert init(folder).code == 0
    words = command("doctor", "-c", folder / "config.yaml")
    piped = run_program("doctor", "-c", folder / "config.yaml").output
    assert all(line[:5] in {"ok   ", "note ", "BAD  "} for line in piped.splitlines())
    for columns in (80, 40):
        lines = click.unstyle(shown_at(columns, *words)).splitlines()
        prose = [re.sub("`[^`]+`", "command", one) for one in lines if len(one) > columns]
        assert [one for one in prose if " " in one[5:]] == []
        assert all(one.count("`") % 2 == 0 for one in lines), "a command is in one line"
        joined = without_numbers(" ".join(line.strip() for line in lines))
        for line in piped.splitlines():
            assert "took" in line or without_numbers(line[5:]) in joined


def without_numbers(said: str) -> str:
    """Some change from one run to the next: what is free on the disk."""
    return re.sub(r"\d+(\.\d+)?", "0", said)


def test_whoever_wants_no_colour_has_none(folder: Path) -> None:
    assert init(folder).code == 0
    words = command("doctor", "-c", folder / "config.yaml")
    assert "\x1b[" in shown_at(80, *words)
    assert "\x1b[" not in shown_at(80, "env", "NO_COLOR=1", *words)
