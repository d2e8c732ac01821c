"""``trestle prove``: the usual faults for so many minutes, with progress shown and a report."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from rich.console import Console

from bridge.prove.faults import Fault, plan
from bridge.prove.report import report, verdict
from bridge.prove.run import USUAL, Proof, Size
from bridge.prove.scratch import scratch
from bridge.prove.script import chance
from bridge.sdk.errors import ConfigError

_SETTLE_SECONDS = 180.0
_SHARE = 0.75
"""The part of the time in which people talk; in the rest, what they said arrives."""


async def play(*, minutes: float, seed: int | None, file: Path) -> int:
    """Prove it, and write the report: 0 if it holds, else 1.

    Raises ``ConfigError`` with the way out if something needed is missing or does not start.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder, so no report can be written there")
    number = secrets.randbelow(1_000_000) if seed is None else seed
    began = monotonic()
    console.print(f"seed {number}: `trestle prove --seed {number}` says and breaks the same again")
    async with scratch(lambda text: console.print(f"[dim]{text}[/]")) as town:
        size = Size(seed=number, settle=_SETTLE_SECONDS)
        end = began + minutes * 60 * _SHARE
        proof = Proof(town, size, _Progress(console, began))
        outcome = await proof.run(_until(end, plan(chance(number, "faults"), USUAL, size.each)))
        if not outcome.holds:
            kept = file.with_suffix(".log")
            kept.write_text(town.trestle.log_text())
            console.print(f"What Trestle logged is kept in {kept}.")
        console.print("[dim]Stopping everything ...[/]")
    file.write_text(report(outcome))
    for finding in outcome.findings:
        mark = "[green]holds[/]" if finding.holds else "[red]broken[/]"
        remark = f"[dim] ({finding.remark})[/]" if finding.remark else ""
        console.print(f"{mark} {finding.claim}: {finding.count} looked at{remark}")
    console.print(f"\n[bold]{verdict(outcome)}[/] The report is in {file}.")
    return 0 if outcome.holds else 1


def _until(end: float, faults: Iterator[Fault]) -> Iterator[Fault]:
    """The faults, at least one, as long as there is time."""
    yield next(faults)
    while monotonic() < end:
        yield next(faults)


class _Progress:
    """Says each thing that is done, on a line, and from time to time that it still waits."""

    def __init__(self, console: Console, began: float) -> None:
        self._console = console
        self._began = began
        self._told = 0.0

    def __call__(self, said: int, fault: Fault | None) -> None:
        now = monotonic()
        if fault is None and now - self._told < 10:
            return
        self._told = now
        what = str(fault) if fault is not None else "waiting until everything has arrived"
        self._console.print(f"[dim]{now - self._began:5.0f} s[/]  {said:6} said  {what}")
