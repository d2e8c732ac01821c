"""The table of ``make bench-irc``: figures, bars, and whether they hold."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Figures:
    """What one side showed in one direction and at one pace."""

    rates: list[float] = field(default_factory=list)
    """Lines a second, a value a round."""
    cpu: list[float] = field(default_factory=list)
    """CPU milliseconds a line, a value a round."""
    seconds: list[float] = field(default_factory=list)
    """From the one side to the other, a value a line."""
    reordered: int = 0

    @property
    def rate(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)

    @property
    def milliseconds(self) -> float:
        """CPU a line, the median of the rounds."""
        return statistics.median(self.cpu)

    @property
    def p50(self) -> float:
        """Milliseconds on the way, of the line in the middle."""
        return statistics.median(self.seconds) * 1000


Mib = tuple[float, float]
"""Of the program, and of its database."""


@dataclass
class Memory:
    """What one side's processes have."""

    idle: Mib
    connected: Mib = (0.0, 0.0)
    many: Mib = (0.0, 0.0)


class _Table:
    def __init__(self) -> None:
        self.all_hold = True
        print(f"{'':<36}{'Trestle':>10}{'heisenbridge':>14}{'ratio':>8}  bar")

    def row(self, title: str, ours: float, theirs: float | None, bar: str, holds: bool) -> None:
        """Print one line; a bar counts."""
        self.all_hold = self.all_hold and holds
        other = "" if theirs is None else f"{theirs:,.2f}"
        ratio = "" if theirs is None else f"{ours / theirs:.2f}" if theirs else "-"
        verdict = f"{bar}: {'holds' if holds else 'DOES NOT HOLD'}" if bar else ""
        print(f"{title:<36}{ours:>10,.2f}{other:>14}{ratio:>8}  {verdict}")


def report(
    found: Mapping[str, Mapping[str, Figures]],
    many: Mapping[str, Figures],
    memory: Mapping[str, Memory],
    commit: float,
) -> bool:
    """Print the table; give whether every bar holds. ``commit``: milliseconds of the least one."""
    ours, theirs = found["trestle"], found["heisenbridge"]
    table = _Table()
    here, there = ours["to IRC, steady"].p50, theirs["to IRC, steady"].p50
    table.row("Matrix to IRC at 50/s, p50 ms", here, there, "at most 1.2x", here <= 1.2 * there)
    table.row("  of it the least durable commit", commit, None, "", True)
    table.row("  the rest", here - commit, there, "", True)
    here, there = ours["to Matrix, steady"].p50, theirs["to Matrix, steady"].p50
    table.row("IRC to Matrix at 50/s, p50 ms", here, there, "under 4", here < 4)
    for name in ("to IRC, burst", "to Matrix, burst"):
        here, there = ours[name].rate, theirs[name].rate
        table.row(f"{name}, lines/s", here, there, "at least 1.5x", here >= 1.5 * there)
    for name, figures in ours.items():
        here, there = figures.milliseconds, theirs[name].milliseconds
        table.row(f"{name}, CPU ms a line", here, there, "at most 1x", here <= there)
    mine = sum(figures.reordered for figures in (*ours.values(), *many.values()))
    yours = sum(figures.reordered for figures in theirs.values())
    table.row("lines out of order", mine, yours, "none", mine == 0)
    _report_memory(table, memory)
    for name, figures in many.items():
        what = ("p50 ms", figures.p50) if "steady" in name else ("lines/s", figures.rate)
        table.row(f"500 connections: {name}, {what[0]}", what[1], None, "", True)
        table.row(f"500 connections: {name}, CPU ms", figures.milliseconds, None, "", True)
    return table.all_hold


def _report_memory(table: _Table, memory: Mapping[str, Memory]) -> None:
    ours, theirs = memory["trestle"], memory["heisenbridge"]
    idle, more = ours.idle[0], ours.connected[0] - ours.idle[0]
    table.row("MiB idle", idle, theirs.idle[0], "at most 60", idle <= 60)
    other = theirs.connected[0] - theirs.idle[0]
    table.row("MiB more with 100 connections", more, other, "at most 15", more <= 15)
    hundred = (ours.many[0] - ours.idle[0]) / 5
    table.row("MiB more for each 100 of 500", hundred, None, "at most 15", hundred <= 15)
    table.row("MiB of the database, idle", ours.idle[1], None, "", True)
    table.row("MiB of the database, 500 connections", ours.many[1], None, "", True)
