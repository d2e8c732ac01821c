"""A second look at what failed beside others, where nobody is there to take one.

Three workers on two cores share their pace with three homeservers. What fails there and holds
alone is still a fault, of the test or of the code, and the report keeps what it found; but it says
nothing about the change that is judged. See docs/adr/0014.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

FEW = 3
"""More than these are no chance: they are not run again."""


def look(session: pytest.Session) -> None:
    """In CI, run each that failed once more, alone; the run passes if all of them hold."""
    if not os.environ.get("CI") or hasattr(session.config, "workerinput"):
        return
    failed = _failed(session.config)
    if session.exitstatus != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= FEW:
        return
    writer = session.config.pluginmanager.get_plugin("terminalreporter")
    assert writer is not None
    writer.section(f"{len(failed)} failed beside others: each once more, alone", yellow=True)
    still = [one for one in failed if not _holds(one)]
    for one in failed:
        writer.line(f"{'failed again' if one in still else 'held alone'}: {one}")
    if not still:
        writer.line(
            "What they found beside others is told below. It is a fault, and to be mended."
        )
        session.exitstatus = pytest.ExitCode.OK


def _failed(config: pytest.Config) -> Sequence[str]:
    """Node ids, in order."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return ()
    reports = (*reporter.stats.get("failed", ()), *reporter.stats.get("error", ()))
    return tuple(dict.fromkeys(report.nodeid for report in reports))


def _holds(nodeid: str) -> bool:
    environment = {**os.environ, "CI": ""}  # There is no third look.
    command = (sys.executable, "-m", "pytest", "-q", nodeid)
    return subprocess.run(command, env=environment, check=False).returncode == 0
