"""Modules that are found as any installed one is: by the entry points of a distribution."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_distribution(site: Path, name: str, entry_points: str) -> None:
    """Have whoever imports from the folder find a distribution with these entry points."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@contextmanager
def findable(name: str, entry_points: str) -> Iterator[None]:
    """Have this process find one until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        write_distribution(Path(folder), name, entry_points)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
