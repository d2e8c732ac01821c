"""A program installed as the README says, for everybody who comes after."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.blocks import blocks_of
from tests.deploy.tools import TOP

PIP_SECONDS = 500
"""For all that is typed, and for a second try: a test and what it needs have ten minutes."""


@dataclass(frozen=True)
class Fresh:
    """The repository as somebody has just got it, with the program installed beside it."""

    folder: Path
    seconds: float
    """What that took. In CI 0: how quick an index is on that machine says nothing about ours."""


@pytest.fixture(scope="session")
def fresh() -> Iterator[Fresh]:
    """Types the README's first two commands: a venv and the program, from the index."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-fresh-"))
    folder.chmod(0o711)
    try:
        for name in ("bridge", "deploy"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(TOP / name, folder / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(TOP / name, folder / name)
        began = time.monotonic()
        for line in install_lines():
            type_in(line, folder, until=began + PIP_SECONDS)
        yield Fresh(folder, 0 if os.environ.get("CI") else time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def type_in(line: str, folder: Path, until: float) -> None:
    """Type a line, and once more if it fails: an index is away for a moment now and then."""
    for left in (1, 0):
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, check=False, capture_output=True, text=True,
            timeout=until - time.monotonic(),
        )  # fmt: skip
        if done.returncode == 0:
            return
        assert left, done.stdout + done.stderr


def install_lines() -> list[str]:
    """What the README has before `trestle init`."""
    lines = first_hour()
    before = lines[: next(at for at, line in enumerate(lines) if "trestle init" in line)]
    assert len(before) == 2
    return before


def first_hour() -> list[str]:
    """The README's commands for one's own homeserver."""
    (block,) = [one for one in blocks_of(TOP / "README.md") if "first_hour" in one.kind]
    return block.lines
