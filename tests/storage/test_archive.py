"""The file of a backup, as it is made."""

import fcntl
import sys
from pathlib import Path

import pytest

from bridge.sdk.errors import TrestleError
from bridge.storage import archive
from tests.storage.conftest import TurnedClock


def test_who_comes_as_another_has_just_finished_does_not_touch_the_file(
    folder: Path, clock: TurnedClock
) -> None:
    path = folder / "x.trestle"

    def finish(_frame: object, event: str, called: object) -> None:
        """Be done between the second one's opening and its lock."""
        if event == "c_call" and called is fcntl.flock:
            sys.setprofile(None)
            path.with_name(".x.trestle.partial").replace(path)

    path.with_name(".x.trestle.partial").write_text("finished")
    sys.setprofile(finish)
    try:
        with (
            pytest.raises(TrestleError, match="another backup was written to"),
            archive.writing(path, clock.now(), force=True),
        ):
            raise AssertionError("it must not write")
    finally:
        sys.setprofile(None)
    assert path.read_text() == "finished"
