"""The report of a proof: what was done, what each ledger says, and whether it holds."""

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from bridge import __version__
from bridge.failpoint import PLACES
from bridge.prove.faults import FaultKind
from bridge.prove.ledgers import Finding
from bridge.prove.run import Outcome

_MOST_FAULTS = 10
"""Of each finding, so many are named."""


def verdict(outcome: Outcome) -> str:
    """What came of it, in a sentence."""
    said = outcome.ledgers.said
    if outcome.holds:
        return f"It holds: {said} messages through {len(outcome.faults)} faults."
    broken = [finding.claim for finding in outcome.findings if not finding.holds]
    return f"It does not hold: {len(broken)} of {len(outcome.findings)} claims are broken."


OWN_IRC = "miniircd"
"""The IRC server that a proof starts where none is given."""


def report(outcome: Outcome, irc: str = OWN_IRC) -> str:
    """Write it as markdown; ``irc`` names the IRC server through which it went."""
    ledgers = outcome.ledgers
    parts = [
        "# What `trestle prove` found",
        f"**{verdict(outcome)}**",
        f"Seed {outcome.size.seed}; {outcome.seconds:.0f} s, of which {outcome.settled:.0f} s "
        f"from the last fault until everything had arrived. {_versions(irc)}.",
        "## What was done",
        _done(outcome),
        "## The ledgers",
        _table(
            ("ledger", "messages"),
            [
                ("accepted by the homeserver from people", len(ledgers.lines)),
                ("said on IRC", len(ledgers.words)),
                ("shown to the module", sum(map(len, ledgers.shown.values()))),
                ("seen by others on IRC", sum(map(len, ledgers.seen.values()))),
                ("held by the rooms in the end", sum(map(len, ledgers.held.values()))),
                ("fetched, since they never came", _fetched(outcome)),
                ("parked", len(ledgers.parked)),
            ],
        ),
        "## What holds between them",
        _table(("claim", "looked at", "faults", ""), [_row(one) for one in outcome.findings]),
    ]
    parts += [_faults_of(finding) for finding in outcome.findings if not finding.holds]
    return "\n\n".join(parts) + "\n"


def _done(outcome: Outcome) -> str:
    kinds = Counter(fault.kind for fault in outcome.faults)
    rows = [(kind.value, kinds[kind]) for kind in FaultKind if kinds[kind]]
    text = _table(("fault", "times"), rows)
    if not outcome.places:
        return text
    places = ", ".join(place for place in PLACES if place in outcome.places)
    return f"{text}\n\nPlaces between two durable steps at which it ended: {places}."


def _row(finding: Finding) -> tuple[object, ...]:
    return finding.claim, finding.count, len(finding.faults) or "none", finding.remark


def _faults_of(finding: Finding) -> str:
    named = [f"- {fault}" for fault in finding.faults[:_MOST_FAULTS]]
    left = len(finding.faults) - len(named)
    more = [f"- and {left} more"] if left else []
    return "\n".join([f"### Not so: {finding.claim}", "", *named, *more])


def _fetched(outcome: Outcome) -> int:
    arrivals = outcome.ledgers.arrivals.values()
    return sum(one.fetched for some in arrivals for one in some)


def _versions(irc: str) -> str:
    own = f"{irc} {_version(irc)}" if irc == OWN_IRC else irc  # Another is no package of Python.
    packages = [f"{name} {_version(name)}" for name in ("matrix-synapse", "aiohttp", "asyncpg")]
    found = [packages[0], own, *packages[1:]]
    return ", ".join([f"Trestle {__version__}", f"Python {platform.python_version()}", *found])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(unknown)"


def _table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
