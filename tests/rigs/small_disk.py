"""A disk of a set size, which can be filled to the last byte and emptied again."""

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE

_PIECE = b"\0" * 65_536


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """Where it is mounted."""

    folder: Path

    @property
    def free(self) -> int:
        """Bytes that still fit."""
        stat = os.statvfs(self.folder)
        return stat.f_bavail * stat.f_frsize

    def fill(self) -> None:
        """Leave no byte."""
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(_PIECE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        """Give the room back."""
        (self.folder / "filler").unlink()


@asynccontextmanager
async def small_disk(folder: Path, *, mebibytes: int) -> AsyncIterator[SmallDisk]:
    """Mount one at the folder, in memory. Only root may, or who may ``sudo``."""
    folder.mkdir()
    await _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "none", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        await _run("umount", "--lazy", str(folder))


async def _run(*command: str) -> None:
    as_root = () if os.geteuid() == 0 else ("sudo", "-n")
    process = await asyncio.create_subprocess_exec(
        *as_root, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(command)}: {said.decode()}"


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """As on a full disk: no file grows beyond the size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def most_files(number: int) -> Iterator[None]:
    """We, and whom we start, may have so many files open, until somebody raises it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def next_file() -> int:
    """The number that the next file to be opened has: as many are open, or more."""
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number
