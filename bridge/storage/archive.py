"""A backup's file: a zip that tells what is in it, and of which every byte is checked.

``manifest.json`` comes last and names each member with its length and SHA-256; the zip's comment,
the last 64 bytes of the file, is the SHA-256 of all that comes before. So a file that was cut
short or changed anywhere is known before anything is taken from it, and any program that opens
a zip can look into it.
"""

import contextlib
import fcntl
import hashlib
import json
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from bridge.sdk.errors import TrestleError
from bridge.storage.files import give_to_owner
from bridge.wholefile import sync_folder

FORMAT = 1
"""Of the file. One that is newer than ours is refused."""

_HEADER = struct.Struct("<4s22xH2x")
"""Of a zip's member: its mark, and the length of its name, which follows."""
_MANIFEST = "manifest.json"
_DIGEST = 64
_CHUNK = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
"""What ``zipfile`` raises for a member that it cannot unpack: one with a password, say."""
_NAME = re.compile(
    r"tables/[a-z_][a-z0-9_]*(/\d{4}-\d\d-\d\d)?|settings/(config|registration)\.yaml|"
    r"files/(audit\.head|keys/(event-ids|audit|erased|master|day/\d{4}-\d\d-\d\d))"
)


class BackupRefused(TrestleError):
    """The file is no backup that can be restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNote:
    """What the manifest says of a table."""

    columns: tuple[str, ...]
    by_day: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What the manifest says of a member."""

    bytes: int
    sha256: str
    rows: int | None = None
    """Of a table or a day of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in the file."""

    format: int = FORMAT
    made_at: datetime
    trestle: str
    """The version that made it."""
    schema: int
    postgres: int
    """The server's major version. The rows fit every other one too."""
    generation: int
    epoch: int
    server_name: str
    tables: Mapping[str, TableNote]
    sequences: Mapping[str, int]
    """The newest number that each has given."""
    members: Mapping[str, Member]

    @property
    def has_master_key(self) -> bool:
        """Whether the file opens the credentials in it."""
        return "files/keys/master" in self.members

    @property
    def has_day_keys(self) -> bool:
        """Whether the file opens what people said."""
        return any(name.startswith("files/keys/day/") for name in self.members)

    @property
    def rows(self) -> int:
        """How many rows there are in all."""
        return sum(member.rows or 0 for member in self.members.values())


class Writer:
    """Adds members to a file that is being made."""

    def __init__(self, archive: zipfile.ZipFile, made_at: datetime) -> None:
        self._archive = archive
        self._date = made_at.timetuple()[:6]
        self.members: dict[str, Member] = {}

    def add(self, name: str, data: bytes) -> None:
        """Add a whole member."""
        with self.adding(name) as write:
            write(data)

    @contextmanager
    def adding(self, name: str, *, squeeze: bool = True) -> Iterator[Callable[[bytes], None]]:
        """Add a member in pieces. What is sealed cannot be squeezed, and need not be tried."""
        info = zipfile.ZipInfo(name, self._date)
        info.external_attr = 0o600 << 16
        info.compress_type = zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
        digest = hashlib.sha256()
        size = 0
        with _told(), self._archive.open(info, "w", force_zip64=True) as member:

            def write(data: bytes) -> None:
                nonlocal size
                with _told():  # Whoever reads would take it for the database's trouble.
                    member.write(data)
                digest.update(data)
                size += len(data)

            yield write
        self.members[name] = Member(bytes=size, sha256=digest.hexdigest())

    def note_rows(self, name: str, rows: int) -> None:
        """Say how many rows a member holds."""
        self.members[name] = replace(self.members[name], rows=rows)

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest."""
        told = {**asdict(manifest), "made_at": manifest.made_at.isoformat()}
        self.add(_MANIFEST, json.dumps(told, indent=1).encode())


@contextmanager
def _told() -> Iterator[None]:
    """Say in words why the file cannot be written."""
    try:
        yield
    except OSError as error:
        raise TrestleError(
            f"the backup cannot be written: {error.strerror or error}. None was made"
        ) from error


@contextmanager
def writing(
    path: Path, made_at: datetime, *, force: bool, state_dir: Path | None = None
) -> Iterator[Writer]:
    """Make the file: whole and on disk, or not at all; its owner alone can read it.

    With ``state_dir`` that is the owner of the state, who restores it, even where root makes it
    in a folder of theirs. A link stays one: what it leads to is made. Raises ``TrestleError`` as
    :func:`refuse_existing`, and if it cannot be written.
    """
    _refuse_led(path)
    path = path.resolve()
    refuse_existing(path, force=force)
    half_made = path.with_name(f".{path.name}.partial")
    try:
        descriptor = os.open(half_made, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise TrestleError(f"{path} cannot be written: {error.strerror}") from error
    with _told(), os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrestleError(f"another backup is being written to {path}") from error
        if not _is_at(half_made, descriptor):
            # Whoever had it was done in between: what we have open is the finished backup.
            raise TrestleError(f"another backup was written to {path} just now")
        try:
            os.fchmod(descriptor, 0o600)
            # At once: what is cut short must not be in their way. In a folder of another's it
            # could be more to them than a backup.
            if state_dir is not None and _have_one_owner(path.parent, state_dir):
                give_to_owner(descriptor, state_dir)
            file.truncate(0)
            with zipfile.ZipFile(file, "w") as archive:
                archive.comment = b"0" * _DIGEST
                yield Writer(archive, made_at)
            _seal(file)
            refuse_existing(path, force=force)
            half_made.replace(path)
        except BaseException:
            half_made.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _refuse_led(path: Path) -> None:
    """Raise ``TrestleError`` if we are root and another user could lead us to any place."""
    if os.geteuid() != 0:
        return
    path = path.absolute()
    for one in (path, *path.parents):
        if one.is_symlink() and one.parent.stat().st_uid != 0:
            raise TrestleError(
                f"{one} is a link in a folder that is not root's, and root follows none of those; "
                f"name the place itself: {path.resolve()}"
            )


def _have_one_owner(folder: Path, other: Path) -> bool:
    try:
        return folder.stat().st_uid == other.stat().st_uid
    except FileNotFoundError:  # No state is kept yet.
        return False


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether what is open is what has that name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise ``TrestleError`` if something is there that may not be written over.

    With ``force`` a backup may be, also a damaged one; nothing else, as it would be gone.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise TrestleError(f"{path} cannot be written: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise TrestleError(f"{path} is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise TrestleError(f"{path} is no file that can be put in another's place; name another")
    if not _began_as_backup(path):
        raise TrestleError(f"{path} is there already, and is no backup; name another file")
    if not force:
        raise TrestleError(f"{path} is there already; --force writes over it")


def _began_as_backup(path: Path) -> bool:
    """Whether the file is empty or begins with a member of ours, whatever comes after that."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return not head
            mark, length = _HEADER.unpack(head)
            name = file.read(length).decode("ascii", "replace")
    except OSError as error:
        raise TrestleError(f"{path} cannot be read: {error.strerror}") from error
    return mark == b"PK\x03\x04" and _NAME.fullmatch(name) is not None


def _seal(file: IO[bytes]) -> None:
    """Put the digest of all before it where the comment is."""
    file.flush()
    end = file.seek(0, os.SEEK_END) - _DIGEST
    digest = _digest(file, end)
    file.seek(end)
    file.write(digest.encode())
    file.flush()
    os.fsync(file.fileno())


def _digest(file: IO[bytes], end: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while end > 0:
        data = file.read(min(_CHUNK, end))
        if not data:
            break
        digest.update(data)
        end -= len(data)
    return digest.hexdigest()


class Reader:
    """A backup that was found whole."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._archive = archive
        self.manifest = manifest

    def read(self, name: str) -> bytes:
        """A whole member. Raises ``KeyError`` if there is none of that name."""
        return self._archive.read(name)

    async def pieces(self, name: str) -> AsyncIterator[bytes]:
        """A member in pieces."""
        with self._archive.open(name) as member:
            while data := member.read(_CHUNK):
                yield data


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open a backup and check all of it. Raises :class:`BackupRefused` if it is not whole."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise BackupRefused(f"{path} cannot be read: {error.strerror}") from error
    with file:
        if not file.seekable():
            raise BackupRefused(f"{path} cannot be read twice, as a pipe; name a file")
        end = file.seek(0, os.SEEK_END) - _DIGEST
        file.seek(0)
        if file.read(4) != b"PK\x03\x04":
            raise BackupRefused(f"{path} is no backup of Trestle, or its beginning is lost")
        file.seek(max(end, 0))
        if _digest(file, end) != file.read().decode("ascii", "replace"):
            raise BackupRefused(
                f"{path} is damaged: it is not as it was written (cut short, or changed). Nothing "
                "was touched; take another backup"
            )
        try:
            archive = zipfile.ZipFile(file)
            manifest = _manifest(json.loads(archive.read(_MANIFEST)), path)
        except (*_UNREADABLE, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BackupRefused(f"{path} is no backup of Trestle") from error
        with archive:
            _check_members(archive, manifest, path)
            yield Reader(archive, manifest)


def _manifest(told: dict[str, Any], path: Path) -> Manifest:
    if told["format"] != FORMAT:
        raise BackupRefused(
            f"{path} was made by Trestle {told.get('trestle')} in a newer format; install that "
            "version, or a newer one"
        )
    return Manifest(
        **{
            **told,
            "made_at": datetime.fromisoformat(told["made_at"]),
            "tables": {
                name: TableNote(columns=tuple(note["columns"]), by_day=note["by_day"])
                for name, note in told["tables"].items()
            },
            "members": {name: Member(**note) for name, note in told["members"].items()},
        }
    )


def _check_members(archive: zipfile.ZipFile, manifest: Manifest, path: Path) -> None:
    """Each is as the manifest says. Whoever made the file may not have been us."""
    there = set(archive.namelist()) - {_MANIFEST}
    if there != set(manifest.members) or not all(map(_NAME.fullmatch, there)):
        raise BackupRefused(f"{path} does not hold what its manifest says")
    for name, note in manifest.members.items():
        digest = hashlib.sha256()
        with contextlib.suppress(*_UNREADABLE), archive.open(name) as member:
            while data := member.read(_CHUNK):
                digest.update(data)
        if digest.hexdigest() != note.sha256:
            raise BackupRefused(f"{path}: {name} in it is damaged")
