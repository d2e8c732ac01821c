"""The file of a backup, as it is made."""

import fcntl
import os
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


@pytest.mark.parametrize("name", ["tables/login", "manifest.json"])
def test_a_member_that_cannot_be_unpacked_is_refused_though_the_digest_is_right(
    folder: Path, clock: TurnedClock, name: str
) -> None:
    path = folder / "x.trestle"
    manifest = archive.Manifest(
        made_at=clock.now(), trestle="", schema=1, postgres=18, generation=1, epoch=1,
        server_name="", tables={}, sequences={},
        members={"tables/login": archive.Member(bytes=4, sha256="")},
    )  # fmt: skip
    with archive.writing(path, clock.now(), force=False) as writer:
        writer.add("tables/login", b"rows")
        writer.finish(manifest)
    data = bytearray(path.read_bytes())
    packed = data.index(name.encode()) + len(name) + 20  # Behind its length in 64 bits.
    data[packed] = 0xFF
    path.write_bytes(data)
    with path.open("r+b") as file:
        archive._seal(file)
    with pytest.raises(archive.BackupRefused), archive.reading(path):
        raise AssertionError("it must not be read")


def test_a_pipe_is_no_backup() -> None:
    reader, writer = os.pipe()
    with (
        open(writer, "wb"),
        open(reader, "rb"),
        pytest.raises(archive.BackupRefused, match="as a pipe; name a file"),
        archive.reading(Path(f"/dev/fd/{reader}")),
    ):
        raise AssertionError("it must not be read")


NOBODY = 65534


def test_root_is_led_by_no_link_of_who_owns_the_state_and_gives_them_what_is_theirs(
    folder: Path, clock: TurnedClock
) -> None:
    state, theirs, ours = (folder / name for name in ("state", "backups", "profile.d"))
    for one in (state, theirs, ours):
        one.mkdir()
    is_root = os.geteuid() == 0
    if is_root:
        for one in (state, theirs):
            os.chown(one, NOBODY, NOBODY)

    def make(path: Path) -> None:
        with archive.writing(path, clock.now(), force=True, state_dir=state):
            pass

    (theirs / "night.trestle").symlink_to(ours / "x.sh")
    (theirs / "deeper").symlink_to(ours)
    for led in (theirs / "night.trestle", theirs / "deeper" / "y.sh"):
        if is_root:
            with pytest.raises(TrestleError, match="is a link in a folder that is not root's"):
                make(led)
        else:  # Nobody leads us anywhere with more rights than they have.
            make(led)
    assert (list(ours.iterdir()) == []) is is_root
    (ours / "link").symlink_to(theirs / "by-link.trestle")
    for one, made in (
        (theirs / "today.trestle", theirs / "today.trestle"),
        (ours / "link", theirs / "by-link.trestle"), (ours / "x.trestle", ours / "x.trestle"),
    ):  # fmt: skip
        make(one)
        assert made.stat().st_uid == made.parent.stat().st_uid
