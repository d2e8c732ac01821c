"""Every metric, in one place.

Label values come from closed sets, or are the instance ids of the config; never an id of a
person or room, a name or a URL.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

from bridge.model import ParkReason, Source
from bridge.sdk.errors import ConfigError
from bridge.sdk.login import LoginState
from bridge.sdk.metrics import Metric
from bridge.sdk.module import ModuleState

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)

_FAST = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
_SLOW = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120, 600, 3600)

_DIRECTIONS = ("to_network", "to_matrix")
_OUTCOMES = ("sent", "retried", "parked", "uncertain", "dropped")


class Documented(NamedTuple):
    """A metric as the reference lists it."""

    name: str
    kind: str
    help: str
    labels: Mapping[str, tuple[str, ...]]
    """Label name to its closed set; empty for the instance ids of the config."""


class Telemetry:
    """All metrics, each an attribute. Bind ``.labels(...)`` once where it is hot.

    Every combination of a closed set exists from the start, so that a rate over it is right
    from the first event on.
    """

    def __init__(self) -> None:
        # When a counter began would be a second series for each of ours.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.documented: list[Documented] = []
        """Name, help and labels of each metric."""
        self.transactions = self._counter(
            "transactions",
            "Transactions from the homeserver, by what became of them.",
            outcome=("accepted", "repeated", "refused", "unreadable", "unavailable"),
        )
        self.events = self._counter(
            "events",
            "Events that came in, by type.",
            type=("message", "encrypted", "member", "state", "redaction", "reaction", "other"),
            source=_values(Source),
        )
        self.acknowledge_seconds = self._histogram(
            "acknowledge_seconds", "From the request's arrival to the answer 200.", _FAST
        )
        self.lanes = self._gauge("lanes", "Lanes: portals and bots' rooms, with work or without.")
        self.items_waiting = self._gauge(
            "items_waiting", "Items of all lanes that are not finished, in memory or not."
        )
        self.oldest_item_seconds = self._gauge(
            "oldest_item_seconds", "Age of the oldest unfinished item; 0 if there is none."
        )
        self.end_to_end_seconds = self._histogram(
            "end_to_end_seconds",
            "From an event's arrival to its delivery on the other side.",
            _SLOW,
            direction=_DIRECTIONS,
        )
        self.sends = self._counter(
            "sends",
            "Deliveries tried, by what became of them.",
            direction=_DIRECTIONS,
            outcome=_OUTCOMES,
        )
        self.parked = self._gauge(
            "parked_items",
            "Items put aside, waiting for a person, by reason.",
            reason=_values(ParkReason),
        )
        self.bookkeeping_difference = self._gauge(
            "bookkeeping_difference",
            "Events received that are neither delivered, parked, dropped nor in hand; must be 0.",
            direction=_DIRECTIONS,
        )
        self.outbox_waiting = self._gauge(
            "outbox_waiting", "Entries of the outbox that are not in Matrix yet."
        )
        self.oldest_outbox_seconds = self._gauge(
            "oldest_outbox_seconds",
            "Age of the oldest entry of the outbox that is not in Matrix; 0 if there is none.",
        )
        self.timers = self._counter(
            "timers",
            "Timers of bots that rang, by what became of them.",
            outcome=("done", "retried", "parked", "void"),
        )
        self.module_state = self._gauge(
            "module_state",
            "1 for the state that the instance is in, else 0.",
            instance=(),
            state=_values(ModuleState),
        )
        self.logins = self._gauge(
            "logins",
            "Logins by state.",
            instance=(),
            state=_values(LoginState),
        )
        self.homeserver_up = self._gauge(
            "homeserver_up", "1 if the homeserver answers, knows us, and takes what we send."
        )
        self.reached_by_homeserver = self._gauge(
            "reached_by_homeserver", "1 if the homeserver's last ping came through to us."
        )
        self.database_up = self._gauge("database_up", "1 if the database answers.")
        self.backup_timestamp_seconds = self._gauge(
            "backup_timestamp_seconds",
            "When the newest backup was finished, as Unix time; 0 if none was made.",
        )
        self.disk_bytes = self._gauge("disk_bytes", "Size of the disk of state_dir.")
        self.disk_free_bytes = self._gauge(
            "disk_free_bytes", "What is left on the disk of state_dir."
        )
        self.auth_failures = self._counter(
            "auth_failures", "Requests to the appservice listener with a wrong token."
        )
        self.loop_lag_seconds = self._histogram(
            "loop_lag_seconds", "How late the event loop runs what is due.", _FAST
        )
        self._of_modules: dict[str, tuple[Metric, Counter | Histogram]] = {}

        self._sends = {
            (direction, outcome): self.sends.labels(direction=direction, outcome=outcome)
            for direction in _DIRECTIONS
            for outcome in _OUTCOMES
        }
        self._crossings = {
            direction: self.end_to_end_seconds.labels(direction=direction)
            for direction in _DIRECTIONS
        }

    def count_send(self, direction: str, outcome: str) -> None:
        """Count a delivery that was tried."""
        self._sends[direction, outcome].inc()

    def time_crossing(self, direction: str, seconds: float) -> None:
        """Note how long an event was with us until it was on the other side."""
        self._crossings[direction].observe(seconds)

    def count_module(self, module: str, instance: str, metric: Metric) -> Counter:
        """Make or give a counter that a module declares, shared by the module's instances.

        Raises ``ConfigError`` when another module has a metric of that name.
        """
        made = self._make_for_module(module, instance, metric)
        assert isinstance(made, Counter)  # noqa: S101 - it has no buckets
        return made

    def measure_module(self, module: str, instance: str, metric: Metric) -> Histogram:
        """Make or give a histogram, as :meth:`count_module` does a counter."""
        made = self._make_for_module(module, instance, metric)
        assert isinstance(made, Histogram)  # noqa: S101 - it has buckets
        return made

    def forget(self, instance: str) -> None:
        """Drop the series of an instance that is no longer there."""
        of_modules = [made for _, made in self._of_modules.values()]
        for metric in (self.module_state, self.logins, *of_modules):
            metric.remove_by_labels({"instance": instance})

    def _make_for_module(self, module: str, instance: str, metric: Metric) -> Counter | Histogram:
        name = re.sub(r"[^a-z0-9_]", "_", f"module_{module}_{metric.name}".lower())
        known, made = self._of_modules.get(name, (metric, None))
        labels = {"instance": (), **metric.labels}
        try:
            if made is None and metric.buckets:
                made = self._histogram(name, metric.help, metric.buckets, **labels)
            elif made is None:
                made = self._counter(name, metric.help, **labels)
        except ValueError as error:  # A histogram `x` and a counter `x_count`, say.
            raise _clash(name, module) from error
        if known != metric:
            raise _clash(name, module)
        self._of_modules[name] = metric, made
        for values in metric.series():
            made.labels(instance, *values)
        return made

    def _counter(self, name: str, text: str, **labels: tuple[str, ...]) -> Counter:
        name = self._document(name, "counter", text, labels)
        return _fill(Counter(name, text, tuple(labels), registry=self.registry), labels)

    def _gauge(self, name: str, text: str, **labels: tuple[str, ...]) -> Gauge:
        name = self._document(name, "gauge", text, labels)
        return _fill(Gauge(name, text, tuple(labels), registry=self.registry), labels)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], **labels: tuple[str, ...]
    ) -> Histogram:
        name = self._document(name, "histogram", text, labels)
        made = Histogram(name, text, tuple(labels), registry=self.registry, buckets=buckets)
        return _fill(made, labels)

    def _document(
        self, name: str, kind: str, text: str, labels: Mapping[str, tuple[str, ...]]
    ) -> str:
        name = f"trestle_{name}"
        shown = f"{name}_total" if kind == "counter" else name
        self.documented.append(Documented(shown, kind, text, dict(labels)))
        return name


def _values(closed_set: type[StrEnum]) -> tuple[str, ...]:
    return tuple(one.value for one in closed_set)


def _clash(name: str, module: str) -> ConfigError:
    return ConfigError(
        f"the module {module} declares the metric trestle_{name}, which is another's already"
    )


def _fill(metric: _Metric, labels: Mapping[str, tuple[str, ...]]) -> _Metric:
    if labels and all(labels.values()):
        for values in itertools.product(*labels.values()):
            metric.labels(*values)
    return metric
