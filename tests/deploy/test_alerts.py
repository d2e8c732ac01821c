"""Each alert fires for its trouble, by the rules as they are shipped, and clears when it is over.

The series are what ``/metrics`` really says: a registry of ours goes through the trouble minute by
minute, and is read as Prometheus reads it.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.manual.alerts import ALERTS
from bridge.telemetry import Telemetry
from tests.deploy.tools import DEPLOY, TOP, run

WELL, TROUBLE, AFTER = 20, 60, 90
"""Minutes before the trouble, of it, and after it."""

JOB = {"job": "trestle", "instance": "127.0.0.1:9184"}


def metrics_in(expression: str) -> set[str]:
    """The names of our metrics in an expression, as :class:`Telemetry` documents them."""
    found = re.findall(r"\btrestle_\w+", expression)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


WATCHED = {
    name.removesuffix("_total") for alert in ALERTS for name in metrics_in(alert.expression)
}
Act = Callable[[Telemetry], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What happens each minute of a trouble, what mends it, and what its alert says."""

    trouble: Act
    mend: Act = lambda telemetry: None
    says: str
    labels: Mapping[str, str] = field(default_factory=dict)
    up: int = 1


def state(name: str) -> Act:
    """The instance is in the state."""

    def act(telemetry: Telemetry) -> None:
        for one in ("starting", "running", "reconnecting", "stopped", "failed"):
            telemetry.module_state.labels(instance="libera", state=one).set(one == name)

    return act


def flapping() -> Act:
    """An outage as it looks: each minute's try begins, or has just failed."""
    tries = itertools.cycle(("starting", "reconnecting"))

    def act(telemetry: Telemetry) -> None:
        state(next(tries))(telemetry)

    return act


def lost(count: int) -> Act:
    return lambda telemetry: telemetry.logins.labels(
        instance="libera", state="sign-in needed"
    ).set(count)


def parked(count: int) -> Act:
    return lambda telemetry: telemetry.parked.labels(reason="refused").set(count)


def slow_delivery(telemetry: Telemetry) -> None:
    for _ in range(3):
        telemetry.end_to_end_seconds.labels(direction="to_matrix").observe(200)


def slow_answers(telemetry: Telemetry) -> None:
    for _ in range(3):
        telemetry.acknowledge_seconds.observe(0.9)


LIBERA = {"exported_instance": "libera"}
CASES = {
    "TrestleDown": Case(
        trouble=lambda t: None, up=0,
        says="Trestle does not answer: nothing is bridged.",
    ),
    "TrestleDatabaseAway": Case(
        trouble=lambda t: t.database_up.set(0), mend=lambda t: t.database_up.set(1),
        says="The database is away: the homeserver keeps the events meanwhile.",
    ),
    "TrestleHomeserverAway": Case(
        trouble=lambda t: t.homeserver_up.set(0), mend=lambda t: t.homeserver_up.set(1),
        says="The homeserver does not answer, does not know us, or takes nothing.",
    ),
    "TrestleNotReached": Case(
        trouble=lambda t: t.reached_by_homeserver.set(0),
        mend=lambda t: t.reached_by_homeserver.set(1),
        says="The homeserver does not reach Trestle: nothing is bridged out of Matrix.",
    ),
    "TrestleInstanceFailed": Case(
        trouble=state("failed"), mend=state("running"), labels={**LIBERA, "state": "failed"},
        says="libera has failed.",
    ),
    "TrestleInstanceDisconnected": Case(
        trouble=flapping(), mend=state("running"), labels=LIBERA,
        says="libera has had no connection to its network for a quarter of an hour.",
    ),
    "TrestleLoginLost": Case(
        trouble=lost(2), mend=lost(0), labels={**LIBERA, "state": "sign-in needed"},
        says="2 logins of libera need their owner to sign in again.",
    ),
    "TrestleItemsParked": Case(
        trouble=parked(3), mend=parked(0), labels={"reason": "refused"},
        says="3 items are parked (refused), and wait for a person.",
    ),
    "TrestleBooksDiffer": Case(
        trouble=lambda t: t.bookkeeping_difference.labels(direction="to_matrix").set(2),
        mend=lambda t: t.bookkeeping_difference.labels(direction="to_matrix").set(0),
        labels={"direction": "to_matrix"},
        says="2 events (to_matrix) are unaccounted for.",
    ),
    "TrestleItemsStuck": Case(
        trouble=lambda t: t.oldest_item_seconds.set(1860),
        mend=lambda t: t.oldest_item_seconds.set(0),
        says="The oldest unfinished item is 31m 0s old.",
    ),
    "TrestleOutboxStuck": Case(
        trouble=lambda t: t.oldest_outbox_seconds.set(1860),
        mend=lambda t: t.oldest_outbox_seconds.set(0),
        says="The oldest entry of the outbox is 31m 0s old.",
    ),
    "TrestleDiskFull": Case(
        trouble=lambda t: t.disk_free_bytes.set(512 << 20),
        mend=lambda t: t.disk_free_bytes.set(9 << 30),
        says="The disk of state_dir has 512MiB left.",
    ),
    "TrestleBackupOld": Case(
        # Prometheus' tests begin at the epoch.
        trouble=lambda t: t.backup_timestamp_seconds.set(-9 * 86400),
        mend=lambda t: t.backup_timestamp_seconds.set(80 * 60),
        says="The newest backup is over eight days old, or there is none.",
    ),
    "TrestleDeliveryUncertain": Case(
        trouble=lambda t: t.sends.labels(direction="to_network", outcome="uncertain").inc(),
        labels={"direction": "to_network", "outcome": "uncertain"},
        says="What was sent to_network may be there twice; its senders were told.",
    ),
    "TrestleDeliverySlow": Case(
        trouble=slow_delivery,
        labels={"direction": "to_matrix"},
        says="One message in twenty takes over half a minute to_matrix.",
    ),
    "TrestleAcknowledgeSlow": Case(
        trouble=slow_answers,
        says="The homeserver waits over half a second for the answer to a transaction.",
    ),
    "TrestleTransactionUnreadable": Case(
        trouble=lambda t: t.transactions.labels(outcome="unreadable").inc(),
        labels={"outcome": "unreadable"},
        says="The homeserver sent what is no transaction; it repeats it, and nothing passes.",
    ),
    "TrestleTokenWrong": Case(
        trouble=lambda t: t.auth_failures.inc(),
        says="Somebody asks the appservice listener with a wrong token.",
    ),
    "TrestleLoopBlocked": Case(
        trouble=lambda t: t.loop_lag_seconds.observe(2),
        says="A module or the machine holds up the whole program for half a second at a time.",
    ),
}  # fmt: skip


def live_a_minute(telemetry: Telemetry) -> None:
    """What happens in any good minute."""
    for _ in range(20):
        telemetry.transactions.labels(outcome="accepted").inc()
        telemetry.acknowledge_seconds.observe(0.002)
        telemetry.loop_lag_seconds.observe(0.001)
        for direction in ("to_network", "to_matrix"):
            telemetry.sends.labels(direction=direction, outcome="sent").inc()
            telemetry.end_to_end_seconds.labels(direction=direction).observe(0.05)


def series_of(case: Case) -> list[dict[str, str]]:
    """What Prometheus has read, a value a minute."""
    telemetry = Telemetry()
    for act in (state("running"), lost(0), parked(0)):
        act(telemetry)
    telemetry.database_up.set(1)
    telemetry.homeserver_up.set(1)
    telemetry.reached_by_homeserver.set(1)
    telemetry.disk_bytes.set(20 << 30)
    telemetry.disk_free_bytes.set(9 << 30)
    read: dict[str, list[str]] = {}
    for minute in range(WELL + TROUBLE + AFTER):
        live_a_minute(telemetry)
        bad = WELL <= minute < WELL + TROUBLE
        if bad:
            case.trouble(telemetry)
        elif minute == WELL + TROUBLE:
            case.mend(telemetry)
        up = case.up if bad else 1
        _note(read, "up", {}, str(up), minute)
        for metric in telemetry.registry.collect() if up else ():
            if metric.name not in WATCHED:
                continue
            for sample in metric.samples:
                _note(read, sample.name, sample.labels, str(sample.value), minute)
        for values in read.values():
            values.extend("_" * (minute + 1 - len(values)))
    return [{"series": name, "values": " ".join(values)} for name, values in read.items()]


def _note(
    read: dict[str, list[str]], name: str, labels: Mapping[str, str], value: str, minute: int
) -> None:
    # Prometheus keeps `instance` for the address that it asks.
    renamed = {f"exported_{key}" if key == "instance" else key: v for key, v in labels.items()}
    shown = ",".join(f'{key}="{v}"' for key, v in {**JOB, **renamed}.items())
    read.setdefault(f"{name}{{{shown}}}", []).append(value)


def unit_test(name: str, case: Case) -> dict[str, Any]:
    """The test of promtool: only this alert fires, and only in the trouble."""
    alert = next(one for one in ALERTS if one.name == name)
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    minutes = {WELL - 1: [], WELL + TROUBLE - 1: [name], WELL + TROUBLE + AFTER - 1: []}
    return {
        "name": name, "interval": "1m", "input_series": series_of(case),
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{minute}m",
             "exp_samples": [{"labels": f'{{alertname="{one}"}}', "value": 1} for one in names]}
            for minute, names in minutes.items()
        ],
        "alert_rule_test": [{
            "alertname": name, "eval_time": f"{WELL + TROUBLE - 1}m",
            "exp_alerts": [{
                "exp_labels": {**JOB, **case.labels, "severity": alert.severity},
                "exp_annotations": {"summary": case.says, "runbook": alert.page},
            }],
        }],
    }  # fmt: skip


@pytest.mark.parametrize("name", [alert.name for alert in ALERTS])
def test_an_alert_fires_for_its_trouble_and_clears(name: str, folder: Path) -> None:
    (folder / "alerts.yml").write_text((DEPLOY / "prometheus/alerts.yml").read_text())
    tests = {
        "rule_files": ["alerts.yml"], "evaluation_interval": "1m",
        "tests": [unit_test(name, CASES[name])],
    }  # fmt: skip
    (folder / "test.yml").write_text(json.dumps(tests))  # Which is YAML too.
    run("promtool", "test", "rules", "test.yml", cwd=folder)


def test_each_alert_asks_for_metrics_that_there_are_and_values_that_they_have() -> None:
    known = {metric.name: metric for metric in Telemetry().documented}
    for alert in ALERTS:
        for name in metrics_in(alert.expression):
            assert name in known, alert.name
        for name, picked in re.findall(r"(trestle_\w+)\{([^}]*)\}", alert.expression):
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', picked):
                assert set(values.split("|")) <= set(known[name].labels[label]), alert.name


def test_each_alert_has_a_page_that_says_what_to_do() -> None:
    pages = {alert.page for alert in ALERTS}
    assert pages == {
        str(path.relative_to(TOP)) for path in (TOP / "docs/how-to/alerts").glob("*.md")
    }
    for alert in ALERTS:
        text = (TOP / alert.page).read_text()
        assert text.startswith("# ")
        assert f"`{alert.name}`" in text
        assert "## What to do" in text
