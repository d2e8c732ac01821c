"""What it costs to load the program, before it has done anything."""

import subprocess
import sys

from tests.admin.commands import LIMIT

_COUNTED = """
import gc, sys
from bridge.__main__ import main

sys.argv = ["trestle", "run", "--help"]
try:
    main()
finally:
    print(sum(one["collections"] for one in gc.get_stats()))
"""


def test_what_is_being_loaded_is_not_looked_through_again_and_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COUNTED], capture_output=True, text=True, check=True,
        timeout=LIMIT,
    )  # fmt: skip
    assert int(done.stdout.splitlines()[-1]) < 40
