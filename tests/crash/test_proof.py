"""The ledger harness, against a real Synapse and real IRC servers."""

import logging
from collections.abc import Mapping

import pytest

from bridge.failpoint import PLACES
from bridge.prove.faults import Fault, FaultKind, plan
from bridge.prove.report import report
from bridge.prove.run import Outcome, Proof, Size
from bridge.prove.scratch import scratch
from tests.crash.processes import processes_of
from tests.rigs.inspircd import run_inspircd
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scale import SCALE, SEED, chance, scaled

RUN = {"ngircd": run_ngircd, "inspircd": run_inspircd}
LINES = 75 if SCALE >= 10 else 30
"""Said in Matrix for each fault; with what is said on IRC, 200 kills lie in 20,000 events."""

ONE_OF_EACH = {
    FaultKind.KILL_JUST_SAID: 1, FaultKind.FAILPOINT: 1, FaultKind.KILL_DRAINING: 1,
    FaultKind.KILL: 1,
}  # fmt: skip

SETTLE = 300 if SCALE < 10 else 600
"""Seconds within which all must have arrived; many kills leave the homeserver much to catch up."""

pytestmark = pytest.mark.timeout(900 if SCALE < 10 else 14_400)
"""A machine that is busy otherwise may take its time; what is proven is not speed."""

log = logging.getLogger(__name__)


def _note(said: int, fault: Fault | None) -> None:
    log.info("%d said; next: %s", said, fault or "waiting until all has arrived")


async def prove(
    kind: str,
    faults: Mapping[FaultKind, int],
    count: int,
    settle: float = SETTLE,
) -> Outcome:
    """Run one beside an IRC server of a kind. Raises ``AssertionError`` with what is broken."""
    async with RUN[kind]() as irc, scratch(irc_port=irc.port) as town:
        size = Size(seed=SEED, each=LINES, settle=settle)
        outcome = await Proof(town, size, _note).run(
            plan(chance(f"{faults}"), faults, LINES, count)
        )
        words = town.trestle.log_text()[-5000:]
    assert not processes_of(town.folder)
    log.info("%s", report(outcome, kind))
    broken = {one.claim: one.faults[:5] for one in outcome.findings if not one.holds}
    assert outcome.holds, f"{broken}; late: {outcome.late[:5]}; the log: {words}"
    return outcome


async def test_killed_at_random_moments_and_at_every_place_nothing_is_lost_or_doubled_unsaid() -> (
    None
):
    many = {
        FaultKind.KILL: 8, FaultKind.FAILPOINT: 11, FaultKind.KILL_JUST_SAID: 2,
        FaultKind.KILL_STARTING: 1, FaultKind.KILL_DRAINING: 1,
    }  # fmt: skip
    count = scaled(200)
    outcome = await prove("ngircd", many if count > len(many) else ONE_OF_EACH, count)
    assert len(outcome.faults) == count
    if count >= 100:
        assert outcome.places == set(PLACES)


async def test_a_network_that_labels_its_answers_is_proven_too() -> None:
    outcome = await prove("inspircd", {FaultKind.KILL: 1}, max(1, scaled(50)))
    assert outcome.faults


async def test_a_homeserver_killed_and_stopped_while_events_are_in_flight_costs_nothing() -> None:
    kinds = {FaultKind.HOMESERVER_KILL: 1, FaultKind.HOMESERVER_STOP: 1}
    outcome = await prove("ngircd", kinds, max(2, scaled(20)), settle=600)
    assert outcome.settled < 600
