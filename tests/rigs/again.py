"""A second look at what failed beside others, where nobody is there to take one.

Four workers share two cores with four homeservers. A test that fails there and holds alone is
still a fault, of the test or of the code, and the report keeps what it found; but it says nothing
about the change under test. See docs/adr/0014.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

FEW = 3
"""More faults than these are not chance: they are not looked at again."""
MANY = 60
"""More tests than these take too long."""

Fault = tuple[str, ...]
"""The tests that one fault failed, by node id: more than one if it is of what they share."""


def look(session: pytest.Session) -> None:
    """In CI, run each that failed once more, alone; the run passes if all of them hold."""
    if not os.environ.get("CI") or hasattr(session.config, "workerinput"):
        return
    faults = _faults(session.config)
    if session.exitstatus != pytest.ExitCode.TESTS_FAILED or not 0 < len(faults) <= FEW:
        return
    if sum(map(len, faults)) > MANY:
        return
    writer = session.config.pluginmanager.get_plugin("terminalreporter")
    assert writer is not None
    writer.section(f"faults beside others: {len(faults)}, each once more, alone", yellow=True)
    seed = session.config.getoption("hypothesis_seed", None)
    still = [fault for fault in faults if not _holds(fault, seed)]
    for fault in faults:
        more = f" and {len(fault) - 1} more of its file" if fault[1:] else ""
        word = "failed again" if fault in still else "held alone"
        writer.line(f"{word}: {fault[0]}{more}")
    if not still:
        writer.line(
            "What they found beside others is told below. It is a fault, and to be mended."
        )
        session.exitstatus = pytest.ExitCode.OK


def _faults(config: pytest.Config) -> Sequence[Fault]:
    """What failed, in order.

    A fixture that many share fails once, and pytest says so again for each test that asks for it:
    in a file it is one fault.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return ()
    found: dict[tuple[str, str], list[str]] = {}
    seen = set()
    for report in (*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())):
        if report.nodeid in seen:
            continue
        seen.add(report.nodeid)
        if report.when == "setup":
            key = (report.nodeid.partition("::")[0], _said(report))
        else:
            key = (report.nodeid, "")
        found.setdefault(key, []).append(report.nodeid)
    return [tuple(fault) for fault in found.values()]


def _said(report: pytest.TestReport) -> str:
    """The error's own words: what is around them names the test that asked."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return report.longreprtext if crash is None else str(crash)


def _holds(fault: Fault, seed: str | None) -> bool:
    same = () if seed is None else (f"--hypothesis-seed={seed}",)
    environment = {**os.environ, "CI": ""}  # There is no third look.
    command = (sys.executable, "-m", "pytest", "-q", *same, *fault)
    return subprocess.run(command, env=environment, check=False).returncode == 0
