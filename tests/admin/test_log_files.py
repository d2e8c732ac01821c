"""The log in files, which are turned and forgotten by days; levels of single parts."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
import pytest

from bridge.cli.run import telling_why
from bridge.logs import Log, levels_by_logger, tidy_log_files
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.sdk.log import ModuleLog
from tests.admin.commands import init, run_program
from tests.admin.logs import logged

DAY = date(2026, 3, 1)
MODULES = {InstanceId("libera"): "irc", InstanceId("oftc"): "irc", InstanceId("dice"): "dice"}


@pytest.fixture
def quiet() -> Iterator[None]:
    """The logging is as before when the test ends."""
    with logged("json"):
        yield
        Log().use()  # Which closes the file.


def say(text: str, day: date, second: int = 0) -> None:
    """Have a line logged on a day."""
    record = logging.makeLogRecord(
        {"name": "bridge.x", "levelno": logging.INFO, "levelname": "INFO", "msg": text}
    )
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second)
    record.created = moment.timestamp()
    logging.getLogger().handle(record)


def written_last_on(day: date, file: Path) -> None:
    """Have the file's own time be of the day."""
    last = datetime(day.year, day.month, day.day, 23, tzinfo=UTC).timestamp()
    os.utime(file, (last, last))


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.usefixtures("quiet")
def test_each_day_has_its_file_and_today_and_13_days_are_kept(folder: Path) -> None:
    place = folder / "logs"
    Log("json", file=place / "trestle.log").use()
    for number in range(20):
        day = DAY + timedelta(days=number)
        say(f"morning {number}", day)
        say(f"night {number}", day, 86_399)
    kept = [DAY + timedelta(days=number) for number in range(6, 19)]
    assert len(kept) == 13
    assert names(place) == ["trestle.log", *(f"trestle.log.{day}" for day in kept)]
    for number, day in enumerate(kept, 6):
        lines = (place / f"trestle.log.{day}").read_text().splitlines()
        assert [f"morning {number}" in lines[0], f"night {number}" in lines[1]] == [True, True]
        assert len(lines) == 2
    assert "morning 19" in (place / "trestle.log").read_text()
    assert {one.stat().st_mode & 0o777 for one in place.iterdir()} == {0o600}
    assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("quiet")
def test_without_a_line_the_hourly_look_turns_and_forgets(folder: Path) -> None:
    Log("json", file=folder / "trestle.log").use()
    (folder / "trestle.log.2026-01-01").write_text("old")
    (folder / "trestle.log.keep").write_text("somebody's")
    (folder / "other.log.2026-01-01").write_text("another's")
    say("the last word", DAY)
    tidy_log_files(DAY + timedelta(days=1))
    kept = ["other.log.2026-01-01", "trestle.log", f"trestle.log.{DAY}", "trestle.log.keep"]
    assert names(folder) == kept
    assert (folder / "trestle.log").read_text() == ""
    tidy_log_files(DAY + timedelta(days=14))
    assert f"trestle.log.{DAY}" not in names(folder)


@pytest.mark.usefixtures("quiet")
def test_a_file_of_before_the_start_is_of_the_day_of_its_last_line(folder: Path) -> None:
    file = folder / "trestle.log"
    Log("json", file=file).use()
    say("the first run", DAY)
    written_last_on(DAY, file)
    Log("json", file=file).use()
    say("the second run", DAY)
    assert len(file.read_text().splitlines()) == 2
    written_last_on(DAY, file)
    Log("json", file=file).use()
    say("the third run", DAY + timedelta(days=1))
    assert names(folder) == ["trestle.log", f"trestle.log.{DAY}"]
    say("by a clock that was set back", DAY)
    assert len(file.read_text().splitlines()) == 2  # Nothing is turned backwards.


@pytest.mark.usefixtures("quiet")
def test_a_folder_that_refuses_is_named_with_the_way_out(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^logging\.file: .* cannot be written: File exists"):
        Log("json", file=folder / "file" / "trestle.log").use()


def test_the_program_writes_into_the_file_of_its_settings(folder: Path) -> None:
    assert init(folder, "--set", "logging.file=logs/trestle.log", modules=("none",)).code == 0
    # It ends by itself: there is no such folder for a database.
    shutil.rmtree(folder / "state")
    (folder / "state").write_text("")
    ended = run_program("run", "-c", folder / "config.yaml")
    assert ended.code == 2
    assert names(folder / "logs") == ["trestle.log"]
    # Why it ended is in the log, and where an admin looks first.
    assert " cannot be used: " in (folder / "logs/trestle.log").read_text()
    assert ended.errors.startswith("trestle: state_dir: ")


@pytest.mark.parametrize("kind", ["screen", "file"])
def test_a_log_on_a_full_disk_stops_nobody(folder: Path, kind: str) -> None:
    (log := folder / "trestle.log").symlink_to("/dev/full")
    code = f"""
import logging, sys
from pathlib import Path
from bridge.logs import Log
Log(file=Path({str(log)!r}) if {kind == "file"} else None).use()
for _ in range(1000):
    logging.error("a line")
sys.stdout.write("went on")
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.stdout == b"went on"


@pytest.mark.usefixtures("quiet")
def test_whoever_leaves_a_full_disk_has_a_log_again(folder: Path) -> None:
    (folder / "full.log").symlink_to("/dev/full")
    Log(file=folder / "full.log").use()
    say("lost", DAY)
    Log(file=folder / "free.log").use()
    say("kept", DAY)
    assert "kept" in (folder / "free.log").read_text()


@pytest.mark.usefixtures("quiet")
def test_a_full_disk_at_midnight_keeps_no_day_in_the_file_of_the_day_before(folder: Path) -> None:
    (file := folder / "trestle.log").symlink_to("/dev/full")
    Log(file=file).use()
    say("first", DAY)
    say("kept", DAY + timedelta(days=1))
    assert "kept" in file.read_text()


def test_an_error_that_nobody_foresaw_is_in_the_log_without_its_text() -> None:
    with (
        logged("json") as (_, output), pytest.raises(click.exceptions.Exit) as ended, telling_why()
    ):  # fmt: skip
        raise KeyError("@alice:secret.example says hello")
    assert ended.value.exit_code == 1
    (line,) = map(json.loads, output.getvalue().splitlines())
    assert (line["level"], line["event"]) == ("critical", "ended")
    assert line["message"] == "ended by an error of its own: KeyError"
    assert line["exception"][0] == "KeyError"
    assert any("test_log_files.py" in place for place in line["exception"])
    assert "secret" not in output.getvalue()


def test_a_part_has_a_level_of_its_own() -> None:
    levels = {"libera": "debug", "core": "warning"}
    with logged("json", levels=levels_by_logger(levels, MODULES)) as (_, output):
        for name in ("core.router", "matrix.client", "module.libera", "module.dice"):
            logging.getLogger(f"bridge.{name}").debug("low")
            logging.getLogger(f"bridge.{name}").info("middle")
    found = [line.split('"logger": "')[1].split('"')[0] for line in output.getvalue().splitlines()]
    assert found == [
        "bridge.matrix.client", "bridge.module.libera", "bridge.module.libera",
        "bridge.module.dice",
    ]  # fmt: skip
    with logged("json") as (_, output):  # The next settings know nothing of it.
        logging.getLogger("bridge.module.libera").debug("low")
        logging.getLogger("bridge.core").info("middle")
    assert len(output.getvalue().splitlines()) == 1


def test_a_module_names_all_its_instances() -> None:
    found = levels_by_logger({"irc": "debug", "dice": "error"}, MODULES)
    assert {name for name, level in found.items() if level == "debug"} == {
        "bridge.module.libera", "bridge.module.oftc", "bridge.networks.irc", "bridge.bots.irc",
    }  # fmt: skip
    assert found["bridge.module.dice"] == "error"


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ("{libra: debug}", "logging.levels.libra: there is no such part; there are "),
        ("{aiohttp: debug}", "logging.levels.aiohttp: there is no such part"),
        ("{dice: loud}", "logging.levels.dice: 'loud' is none of debug, info, warning, error"),
        ("debug", "logging.levels: must be keys and values, for example `irc: debug`"),
    ],
)
def test_a_level_that_means_nothing_is_named(folder: Path, levels: str, said: str) -> None:
    made = init(folder, "--set", f"logging.levels={levels}")
    assert made.code == 2
    assert said in made.errors


def test_what_a_network_says_of_one_person_s_login_is_left_out() -> None:
    with logged("json") as (_, output):
        log = ModuleLog(InstanceId("libera"), personal=True)
        log.warning("try %d: %s", 3, "the nick alice is taken", extra={"event": "irc_refused"})
    (line,) = output.getvalue().splitlines()
    assert '"message": "try 3: …"' in line
    assert '"event": "irc_refused"' in line
    assert "alice" not in line


def test_a_module_s_line_keeps_its_event_beside_the_instance() -> None:
    with logged("json") as (_, output):
        ModuleLog(InstanceId("dice")).info("rolled", extra={"event": "dice_rolled"})
        ModuleLog(InstanceId("dice")).info("rolled")
    first, second = output.getvalue().splitlines()
    assert '"event": "dice_rolled"' in first
    assert '"event": "module"' in second
    assert '"instance": "dice"' in first
    assert '"instance": "dice"' in second
