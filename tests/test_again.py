"""A second look at what failed is one, and not a third."""

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
_ALWAYS = """

def test_always():
    assert not "alone"
"""


@pytest.mark.parametrize(
    ("tests", "code", "said"),
    [
        (_ONCE.format(number=1), 0, "held alone: test_it.py::test_once_1"),
        (_ONCE.format(number=1) + _ALWAYS, 1, "failed again: test_it.py::test_always"),
        ("".join(_ONCE.format(number=one) for one in range(4)), 1, "4 failed"),
    ],
)
def test_what_fails_twice_or_too_often_fails_the_run(
    tests: str, code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_it.py").write_text(tests)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "CI": "true"},
    )  # fmt: skip
    assert (ended.returncode, said in ended.stdout) == (code, True), ended.stdout
    assert ("held alone" in ended.stdout) == ("4 failed" not in said)
    if code == 0:
        assert "AssertionError: beside others" in ended.stdout
        assert "It is a fault" in ended.stdout
