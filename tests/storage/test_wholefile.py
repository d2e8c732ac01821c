"""A file is written whole or not at all, and belongs to whom it should."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.wholefile import read_whole, write_whole
from tests.rigs.small_disk import no_room_beyond


def test_a_new_file_is_ours_alone_whatever_an_earlier_try_left(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.write_text("kept")
    (folder / "file.new").symlink_to(elsewhere)
    old_mask = os.umask(0)
    try:
        write_whole(folder / "file", b"words", own_folder=True)
    finally:
        os.umask(old_mask)
    assert (folder / "file").read_bytes() == b"words"
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o600
    assert elsewhere.read_text() == "kept"
    assert sorted(one.name for one in folder.iterdir()) == ["elsewhere", "file"]


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_beside(folder: Path) -> None:
    (folder / "file").write_text("before")
    with no_room_beyond(100), pytest.raises(OSError, match="File too large"):
        write_whole(folder / "file", b"x" * 1000)
    assert (folder / "file").read_text() == "before"
    assert [one.name for one in folder.iterdir()] == ["file"]


def test_what_cannot_be_written_is_named_as_whoever_asked_for_it_knows_it(folder: Path) -> None:
    with no_room_beyond(100), pytest.raises(OSError, match="File too large") as full:
        write_whole(folder / "file", b"x" * 1000)
    with pytest.raises(FileNotFoundError) as nowhere:
        write_whole(folder / "none" / "file", b"words")
    (folder / "file").write_text("before")
    with pytest.raises(FileExistsError) as there:
        write_whole(folder / "file", b"words", only_new=True)
    named = [(one.value.filename, one.value.filename2) for one in (full, nowhere, there)]
    assert named == [
        (str(folder / "file"), None), (str(folder / "none" / "file"), None),
        (str(folder / "file"), None),
    ]  # fmt: skip
    assert not [one for one in (full, nowhere, there) if "None" in str(one.value)]


def test_one_that_is_to_be_new_is_ours_alone_with_nothing_beside(folder: Path) -> None:
    write_whole(folder / "file", b"words", only_new=True)
    assert (folder / "file").read_bytes() == b"words"
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o600
    assert [one.name for one in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("only_new", [False, True])
def test_where_others_keep_theirs_what_is_beside_it_is_left_alone(
    folder: Path, only_new: bool
) -> None:
    (folder / "file.new").write_text("of somebody else")
    write_whole(folder / "file", b"words", only_new=only_new)
    with no_room_beyond(100), pytest.raises(OSError, match="File too large"):
        write_whole(folder / "other", b"x" * 1000, only_new=only_new)
    assert (folder / "file.new").read_text() == "of somebody else"
    assert sorted(one.name for one in folder.iterdir()) == ["file", "file.new"]


@pytest.mark.parametrize("only_new", [False, True])
def test_what_a_try_left_that_was_cut_off_goes_with_the_next_one(
    folder: Path, only_new: bool
) -> None:
    others = [
        "file.0123.new",
        "file.new",
        "its.0123456789abcdef.new",
        "xfile.0123456789abcdef.new",
    ]
    for name in ["file.0123456789abcdef.new", "file.fedcba9876543210.new", *others]:
        (folder / name).write_text("half of it")
    write_whole(folder / "file", b"words", only_new=only_new)
    assert sorted(one.name for one in folder.iterdir()) == ["file", *others]


@pytest.mark.parametrize("there", ["a file", "a link to nothing"])
def test_one_that_is_to_be_new_replaces_nothing(folder: Path, there: str) -> None:
    path = folder / "file"
    if there == "a file":
        path.write_text("before")
    else:
        path.symlink_to(folder / "nothing")
    before = path.lstat()
    with pytest.raises(FileExistsError):
        write_whole(path, b"words", only_new=True)
    assert (path.lstat().st_ino, [one.name for one in folder.iterdir()]) == (
        before.st_ino, ["file"],
    )  # fmt: skip


def test_one_that_is_to_be_new_is_not_there_if_it_cannot_be_written(folder: Path) -> None:
    with no_room_beyond(100), pytest.raises(OSError, match="File too large"):
        write_whole(folder / "file", b"x" * 1000, only_new=True)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("special", ["a folder", "a pipe", "a link to a device"])
def test_what_is_no_file_is_not_replaced(folder: Path, special: str) -> None:
    path = folder / "it"
    match special:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to(os.devnull)
    before = path.lstat()
    with pytest.raises(OSError, match="it is there and no file"):
        write_whole(path, b"words")
    assert path.lstat().st_ino == before.st_ino


def test_a_link_to_a_file_is_replaced_and_not_followed(folder: Path) -> None:
    real, link = folder / "real", folder / "link"
    real.write_text("kept")
    link.symlink_to(real)
    write_whole(link, b"words")
    assert not link.is_symlink()
    assert real.read_text() == "kept"


def test_it_is_given_to_whom_it_is_to_belong(folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.write_text("")
    if os.geteuid() == 0:
        os.chown(theirs, 4711, 4712)
    write_whole(folder / "file", b"words", mode=0o640, owner=theirs.stat())
    about, wanted = (folder / "file").stat(), theirs.stat()
    assert (about.st_uid, about.st_gid) == (wanted.st_uid, wanted.st_gid)
    assert stat.S_IMODE(about.st_mode) == 0o640


@pytest.mark.parametrize(("mode", "left"), [(0o640, 0o600), (0o644, 0o644), (0o664, 0o644)])
def test_where_it_cannot_be_given_our_group_gets_no_more_than_all_others(
    folder: Path, mode: int, left: int
) -> None:
    folder.chmod(0o777)
    we = os.geteuid()
    if we == 0:
        os.seteuid(65534)
    try:
        write_whole(folder / "file", b"words", mode=mode, owner=Path("/").stat())
    finally:
        os.seteuid(we)
    assert stat.S_IMODE((folder / "file").stat().st_mode) == left


def test_in_a_folder_that_may_not_be_read_it_is_written_all_the_same(folder: Path) -> None:
    folder.chmod(0o333)
    we = os.geteuid()
    if we == 0:
        os.seteuid(65534)
    try:
        write_whole(folder / "file", b"words")
    finally:
        os.seteuid(we)
        folder.chmod(0o700)
    assert (folder / "file").read_bytes() == b"words"


def test_what_a_command_writes_into_a_pipe_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    data = b"a: b\n" * 100_000  # More than fits into the pipe.

    def tell() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(tell)
        assert read_whole(Path(f"/dev/fd/{reading}"))[0] == data
        told.result(timeout=10)
    os.close(reading)
