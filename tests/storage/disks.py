"""Disks with little room."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rigs.small_disk import no_room_beyond


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes, where we may make one; else no file may be longer than a MiB."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "none", folder],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    with no_room_beyond(min(size, 1 << 20)):
        yield folder
