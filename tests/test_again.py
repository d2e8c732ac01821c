"""What failed in CI is run once more, alone, and never a third time; what chance chose, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CONFTEST = """
import pytest
from tests.rigs import again


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    again.look(session)
"""
_ONCE = """
import pathlib


def test_once_{number}():
    mark = pathlib.Path(__file__).with_suffix(".{number}")
    first = not mark.exists()
    mark.touch()
    assert not first, "beside others"
"""
_SEEDED = """
import pathlib


def test_seed(request):
    mark = pathlib.Path(__file__).with_suffix(".seed")
    first = not mark.exists()
    mark.touch()
    assert not first, "beside others"
    assert request.config.getoption("hypothesis_seed") == "7"
"""
_SHARED = """
import pathlib
import pytest


@pytest.fixture(scope="session")
def server():
    mark = pathlib.Path(__file__).with_suffix(".server")
    first = not mark.exists()
    mark.touch()
    assert not first, "beside others"


@pytest.mark.parametrize("number", range({number}))
def test_it(server, number):
    assert number < {good}
"""
_DIFFERENT = """
import pytest


@pytest.fixture
def own(request):
    raise RuntimeError(request.node.name)


@pytest.mark.parametrize("number", range(4))
def test_it(own, number):
    pass
"""
_ALWAYS = """

def test_always():
    assert not "alone"
"""

_CHOSEN = """
from hypothesis import given
from hypothesis import strategies as some
from tests.rigs.scale import examples


@examples(20)
@given(some.binary(min_size=64, max_size=64))
def test_chance(chosen):
    print("chosen:", chosen.hex())
"""


@pytest.mark.parametrize(
    ("tests", "code", "said"),
    [
        (_ONCE.format(number=1), 0, "held alone: test_it.py::test_once_1"),
        (_ONCE.format(number=1) + _ALWAYS, 1, "failed again: test_it.py::test_always"),
        ("".join(_ONCE.format(number=one) for one in range(4)), 1, "4 failed"),
        # By the same seed, or what was found by chance would not be found again.
        (_SEEDED, 0, "held alone: test_it.py::test_seed"),
        # What tests share is one fault, and is looked at with all of them.
        (_SHARED.format(number=9, good=9), 0, "held alone: test_it.py::test_it[0] and 8 more"),
        (_SHARED.format(number=9, good=8), 1, "failed again: test_it.py::test_it[0] and 8 more"),
        (_SHARED.format(number=61, good=61), 1, "61 errors"),
        (_DIFFERENT, 1, "4 errors"),
    ],
)
def test_what_fails_twice_or_too_often_fails_the_run(
    tests: str, code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_it.py").write_text(tests)
    # Loading them takes longer than such a test, in each of three programs.
    spared, seed = ["asyncio", "timeout"], ["--hypothesis-seed=7"]
    if tests != _SEEDED:
        spared, seed = [*spared, "hypothesispytest"], []
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-n", "1", "--dist", "loadfile",
            "-p", "no:cacheprovider", *seed, "test_it.py",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={
            **os.environ, "PYTHONPATH": os.getcwd(), "CI": "true",
            "PYTEST_ADDOPTS": " ".join(f"-p no:{plugin}" for plugin in spared),
        },
    )  # fmt: skip
    assert (ended.returncode, said in ended.stdout) == (code, True), ended.stdout
    assert ("beside others: " in ended.stdout) == (" alone: " in said or " again: " in said)
    if code == 0:
        assert "AssertionError: beside others" in ended.stdout
        assert "It is a fault" in ended.stdout


def test_what_chance_chooses_in_ci_is_of_the_seed_and_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_CHOSEN)
    chosen = [_chosen(tmp_path, seed) for seed in ("1", "1", "2")]
    assert len(chosen[0]) > 10
    assert chosen[0] == chosen[1] != chosen[2]


def _chosen(folder: Path, seed: str) -> list[str]:
    """What a run with that seed tries."""
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider",
            f"--hypothesis-seed={seed}", "test_it.py",
        ],
        cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "CI": "true"},
    )  # fmt: skip
    return [line for line in ended.stdout.splitlines() if line.startswith("chosen: ")]
