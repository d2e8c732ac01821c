"""The log of the embedded Postgres: a file that only we read, turned by day, and forgotten."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bridge.storage.datamap import RECEIVED_DAYS

log = logging.getLogger(__name__)

_PIECE = 1 << 16


class ServerLog:
    """``postgres.log``, and beside it the days before, kept as long as what people say is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._day: date | None = None
        """The day of its first line, if we know."""

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Have it open for a server to write to: give the descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # It was open to others, once.
            yield descriptor
        finally:
            os.close(descriptor)

    def tidy(self, today: date) -> None:
        """Turn it if it is of an earlier day; delete what is too old. Call it every hour.

        What cannot be done (the disk is full, say) is tried again with the next call.
        """
        try:
            self._turn(today)
            self._forget(today)
        except OSError as error:
            log.warning(
                "the embedded database's log cannot be turned: %s", error.strerror,
                extra={"event": "pg_log_stays"},
            )  # fmt: skip

    def last_words(self) -> str:
        """Why the server ended, in its own words."""
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _PIECE))  # Nobody knows how long it is.
            lines = file.read(_PIECE).decode(errors="replace").strip().splitlines()
        fatal = [line.partition("FATAL:")[2].strip() for line in lines[-5:] if "FATAL:" in line]
        return (fatal or lines or ["no reason given"])[-1]

    # --- inside ---

    def _turn(self, today: date) -> None:
        """The server goes on writing to the same file, so what is in it is copied and cut off."""
        before = self._day or self._last_day()
        if before is not None and before < today and self._last_day() is not None:
            aside = self.path.with_name(f"{self.path.name}.{before}")
            # Unbuffered: what is cut off here is there.
            with self.path.open("r+b", buffering=0) as now, aside.open("ab", buffering=0) as kept:
                aside.chmod(0o600)
                had = kept.tell()
                try:
                    _copy(now, kept)
                    os.fsync(kept.fileno())
                    _copy(now, kept)  # What was said while the disk was slow.
                except OSError:
                    kept.truncate(had)  # All of it is copied again.
                    raise
                # Between two calls lies what cannot be helped: nothing reads and cuts as one.
                now.truncate(0)
        self._day = today

    def _forget(self, today: date) -> None:
        self.path.with_suffix(".log.old").unlink(missing_ok=True)  # Of earlier versions.
        oldest = today - timedelta(days=RECEIVED_DAYS - 1)
        for file in self.path.parent.glob(f"{self.path.name}.????-??-??"):
            with contextlib.suppress(ValueError):
                if date.fromisoformat(file.suffix[1:]) < oldest:
                    file.unlink()

    def _last_day(self) -> date | None:
        """The day of its last line; None if there is none."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return datetime.fromtimestamp(status.st_mtime, UTC).date() if status.st_size else None


def _copy(source: io.FileIO, target: io.FileIO) -> None:
    """Copy the rest of a file."""
    while data := source.read(_PIECE):
        left = memoryview(data)
        while left:
            left = left[target.write(left) :]
