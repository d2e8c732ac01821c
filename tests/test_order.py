"""The longest files begin first, however few their tests are."""

import os
import subprocess
import sys
from pathlib import Path

_CONFTEST = """
import pytest
from tests.rigs import order


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return order.ByFile(config, log)
"""
_TESTS = """
import pytest


@pytest.mark.parametrize("number", range({number}))
def test_it(number):
    pass
"""


def test_files_begin_in_the_order_they_come_in(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    names = [f"test_{letter}.py" for letter in "abc"]
    for number, name in enumerate(names, 1):
        (tmp_path / name).write_text(_TESTS.format(number=number))
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-n", "1", "--dist", "loadfile", "-v",
            "-p", "no:cacheprovider", *names,
        ],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    done = [line.split()[-1] for line in ended.stdout.splitlines() if " PASSED " in line]
    assert [one.partition("::")[0] for one in done] == [
        "test_a.py", "test_b.py", "test_b.py", "test_c.py", "test_c.py", "test_c.py",
    ]  # fmt: skip
