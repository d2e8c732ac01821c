"""What an operator is woken for: ``deploy/prometheus/alerts.yml``, from one list of alerts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.init import to_yaml

_MODULE = "{{ or $labels.exported_instance $labels.instance }}"
"""The module's instance: Prometheus keeps ``instance`` for the address that it asks."""

_HEAD = """\
# Alerts on the metrics of Trestle, for Prometheus. Made by `python -m bridge.manual` from
# bridge/manual/alerts.py: change them there. Each has a page that says what to do; `runbook` is
# its path in the repository.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One condition that a person should hear of."""

    name: str
    expression: str
    """PromQL that gives a series for each trouble, and none when all is well."""
    lasting: str
    """How long it must hold, as Prometheus writes it: ``5m``. ``0m`` is at once."""
    severity: Literal["page", "ticket"]
    """``page``: somebody is to look now; ``ticket``: in the next days."""
    summary: str
    """A sentence; may hold templates of Prometheus."""

    @property
    def page(self) -> str:
        """The path of its page in the repository."""
        words = re.sub(r"(?<!^)(?=[A-Z])", "-", self.name.removeprefix("Trestle")).lower()
        return f"docs/how-to/alerts/{words}.md"


def _quantile(quantile: str, metric: str, *labels: str) -> str:
    by = ", ".join(("job", "instance", *labels, "le"))
    return f"histogram_quantile({quantile}, sum by ({by}) (rate({metric}_bucket[10m])))"


ALERTS: Sequence[Alert] = (
    Alert(
        name="TrestleDown",
        expression='up{job="trestle"} == 0 or absent(up{job="trestle"})',
        lasting="2m", severity="page",
        summary="Trestle does not answer: nothing is bridged.",
    ),
    Alert(
        name="TrestleDatabaseAway",
        expression="trestle_database_up == 0",
        lasting="2m", severity="page",
        summary="The database is away: the homeserver keeps the events meanwhile.",
    ),
    Alert(
        name="TrestleHomeserverAway",
        expression="trestle_homeserver_up == 0",
        lasting="5m", severity="page",
        summary="The homeserver does not answer, does not know us, or takes nothing.",
    ),
    Alert(
        name="TrestleNotReached",
        # Where we do not reach it, nobody knows whether it would reach us.
        expression="trestle_reached_by_homeserver == 0 and trestle_homeserver_up == 1",
        lasting="5m", severity="page",
        summary="The homeserver does not reach Trestle: nothing is bridged out of Matrix.",
    ),
    Alert(
        name="TrestleInstanceFailed",
        expression='trestle_module_state{state="failed"} == 1',
        lasting="1m", severity="page",
        summary=f"{_MODULE} has failed.",
    ),
    Alert(
        name="TrestleInstanceDisconnected",
        # Each try goes from the one state to the other and back.
        expression="max by (job, instance, exported_instance) "
        '(trestle_module_state{state=~"starting|reconnecting"}) == 1',
        lasting="15m", severity="page",
        summary=f"{_MODULE} has had no connection to its network for a quarter of an hour.",
    ),
    Alert(
        name="TrestleLoginLost",
        expression='trestle_logins{state="sign-in needed"} > 0',
        lasting="10m", severity="ticket",
        summary=f"{{{{ $value }}}} logins of {_MODULE} need their owner to sign in again.",
    ),
    Alert(
        name="TrestleItemsParked",
        expression="sum by (job, instance, reason) (trestle_parked_items) > 0",
        lasting="1m", severity="ticket",
        summary="{{ $value }} items are parked ({{ $labels.reason }}), and wait for a person.",
    ),
    Alert(
        name="TrestleBooksDiffer",
        expression="sum by (job, instance, direction) (trestle_bookkeeping_difference) > 0",
        lasting="0m", severity="ticket",
        summary="{{ $value }} events ({{ $labels.direction }}) are unaccounted for.",
    ),
    Alert(
        name="TrestleItemsStuck",
        expression="trestle_oldest_item_seconds > 600",
        lasting="5m", severity="page",
        summary="The oldest unfinished item is {{ $value | humanizeDuration }} old.",
    ),
    Alert(
        name="TrestleOutboxStuck",
        expression="trestle_oldest_outbox_seconds > 600",
        lasting="5m", severity="page",
        summary="The oldest entry of the outbox is {{ $value | humanizeDuration }} old.",
    ),
    Alert(
        name="TrestleDiskFull",
        expression="trestle_disk_free_bytes < clamp_max(trestle_disk_bytes / 20, 1073741824)",
        lasting="5m", severity="page",
        summary="The disk of state_dir has {{ $value | humanize1024 }}B left.",
    ),
    Alert(
        name="TrestleBackupOld",
        expression="time() - trestle_backup_timestamp_seconds > 691200",
        lasting="30m", severity="ticket",
        summary="The newest backup is over eight days old, or there is none.",
    ),
    Alert(
        name="TrestleDeliveryUncertain",
        expression='increase(trestle_sends_total{outcome="uncertain"}[1h]) > 0',
        lasting="0m", severity="ticket",
        summary="What was sent {{ $labels.direction }} may be there twice; its senders were told.",
    ),
    Alert(
        name="TrestleDeliverySlow",
        expression=_quantile("0.95", "trestle_end_to_end_seconds", "direction") + " > 30",
        lasting="15m", severity="ticket",
        summary="One message in twenty takes over half a minute {{ $labels.direction }}.",
    ),
    Alert(
        name="TrestleAcknowledgeSlow",
        expression=_quantile("0.95", "trestle_acknowledge_seconds") + " > 0.5",
        lasting="15m", severity="ticket",
        summary="The homeserver waits over half a second for the answer to a transaction.",
    ),
    Alert(
        name="TrestleTransactionUnreadable",
        expression='increase(trestle_transactions_total{outcome="unreadable"}[10m]) > 0',
        lasting="0m", severity="page",
        summary="The homeserver sent what is no transaction; it repeats it, and nothing passes.",
    ),
    Alert(
        name="TrestleTokenWrong",
        expression="increase(trestle_auth_failures_total[10m]) > 5",
        lasting="0m", severity="ticket",
        summary="Somebody asks the appservice listener with a wrong token.",
    ),
    Alert(
        name="TrestleLoopBlocked",
        expression=_quantile("0.99", "trestle_loop_lag_seconds") + " > 0.5",
        lasting="15m", severity="ticket",
        summary="A module or the machine holds up the whole program for half a second at a time.",
    ),
)  # fmt: skip


def rules() -> dict[str, Any]:
    """The rules as Prometheus reads them."""
    return {"groups": [{"name": "trestle", "rules": [_rule(alert) for alert in ALERTS]}]}


def alerts_file() -> str:
    """The text of ``deploy/prometheus/alerts.yml``."""
    return to_yaml(rules(), _HEAD)


def _rule(alert: Alert) -> Mapping[str, Any]:
    lasting = {} if alert.lasting == "0m" else {"for": alert.lasting}
    return {
        "alert": alert.name, "expr": alert.expression, **lasting,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": alert.page},
    }  # fmt: skip
