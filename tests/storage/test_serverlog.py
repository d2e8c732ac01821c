"""The log of the embedded Postgres."""

import os
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from bridge.storage.serverlog import ServerLog
from tests.rigs.small_disk import no_room_beyond

DAY = date(2026, 3, 1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_turned_by_day_while_the_server_writes_and_forgotten_after_fourteen(
    folder: Path,
) -> None:
    path = folder / "postgres.log"
    (folder / "postgres.log.old").write_text("of an earlier version\n")
    path.write_text("of the day before\n")
    yesterday = datetime(2026, 2, 28, 23, tzinfo=UTC).timestamp()
    os.utime(path, (yesterday, yesterday))
    log = ServerLog(path)
    log.tidy(DAY)
    assert names(folder) == ["postgres.log", "postgres.log.2026-02-28"]
    with log.opened() as server:
        os.write(server, b"FATAL:  first\n")
        log.tidy(DAY)
        assert log.last_words() == "first"
        log.tidy(DAY + timedelta(days=1))
        os.write(server, b"second\n")
        assert path.read_text() == "second\n"
    aside = folder / "postgres.log.2026-03-01"
    assert aside.read_text() == "FATAL:  first\n"
    assert {one.stat().st_mode & 0o777 for one in (path, aside)} == {0o600}
    log.tidy(DAY + timedelta(days=13))
    assert names(folder)[1:] == ["postgres.log.2026-03-01", "postgres.log.2026-03-02"]
    log.tidy(DAY + timedelta(days=14))
    assert names(folder) == ["postgres.log", "postgres.log.2026-03-02"]


def test_what_cannot_be_turned_is_tried_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ServerLog(folder / "postgres.log")
    log.tidy(DAY)
    log.path.write_text("words\n")
    in_its_way = folder / "postgres.log.2026-03-01"
    in_its_way.mkdir()
    log.tidy(DAY + timedelta(days=1))
    assert "cannot be turned: Is a directory" in caplog.text
    in_its_way.rmdir()
    log.tidy(DAY + timedelta(days=1))
    assert in_its_way.read_text() == "words\n"
    assert log.path.read_text() == ""


@pytest.mark.parametrize("lines", [50, 30_000])
def test_a_full_disk_loses_no_line_and_doubles_none(folder: Path, lines: int) -> None:
    log = ServerLog(folder / "postgres.log")
    log.tidy(DAY)
    words = "".join(f"line {number}\n" for number in range(lines))
    log.path.write_text(words)
    aside = folder / "postgres.log.2026-03-01"
    aside.write_text("of an earlier turn\n")
    for room in (100, len(words) // 2):
        with no_room_beyond(room):
            log.tidy(DAY + timedelta(days=1))
        assert log.path.read_text() == words
        assert aside.read_text() == "of an earlier turn\n"
    log.tidy(DAY + timedelta(days=1))
    assert aside.read_text() == "of an earlier turn\n" + words
    assert log.path.read_text() == ""


def test_the_last_words_of_a_server_that_said_a_lot_take_no_memory(folder: Path) -> None:
    log = ServerLog(folder / "postgres.log")
    with log.path.open("wb") as file:
        file.truncate(64 << 20)
    with log.opened() as server:
        os.write(server, b"\nFATAL:  could not write: No space left\nLOG:  shut down\n")
    tracemalloc.start()
    try:
        assert log.last_words() == "could not write: No space left"
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_without_a_file_there_is_nothing_to_do(folder: Path) -> None:
    ServerLog(folder / "postgres.log").tidy(DAY)
    assert names(folder) == []
