"""Metrics that a module declares, so that its operator sees them among the host's own."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VALUE = re.compile(r"[a-z0-9][a-z0-9 _-]{0,39}")
_RESERVED = {"instance", "le", "quantile"}
_MOST_SERIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of a module, shown as ``trestle_module_<module>_<name>``.

    The host adds the label ``instance``. Label values are declared here and nowhere else: no id,
    name, address or text of anybody can become one. Raises ``ValueError`` if it is none.
    """

    name: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label name to all its values."""
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram, rising; a counter has none."""

    def __post_init__(self) -> None:
        for name in (self.name, *self.labels):
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise ValueError(f"a metric or label cannot be called {name!r}")
        if not self.help:
            raise ValueError(f"the metric {self.name} needs a sentence that says what it counts")
        for name, values in self.labels.items():
            if not values or not all(_VALUE.fullmatch(value) for value in values):
                raise ValueError(f"{self.name}: {name} needs plain words as values, not {values}")
        if sum(1 for _ in self.series()) > _MOST_SERIES:
            raise ValueError(f"{self.name} has more than {_MOST_SERIES} combinations of labels")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"the buckets of {self.name} must rise")

    def series(self) -> Iterator[tuple[str, ...]]:
        """Every combination of label values."""
        return itertools.product(*self.labels.values())


def check_use(
    metrics: Iterable[Metric], name: str, labels: Mapping[str, str], *, measured: bool
) -> None:
    """Raise ``ValueError`` unless the metric is declared, of that kind, with those labels."""
    metric = next((one for one in metrics if one.name == name), None)
    if metric is None:
        raise ValueError(f"the metric {name!r} is not declared in ModuleInfo.metrics")
    if measured is not bool(metric.buckets):
        right = "observe() it" if metric.buckets else "count() it"
        raise ValueError(f"{name} is {'a histogram' if metric.buckets else 'a counter'}: {right}")
    if labels.keys() != metric.labels.keys():
        raise ValueError(f"{name} has the labels {sorted(metric.labels)}, not {sorted(labels)}")
    for label, value in labels.items():
        if value not in metric.labels[label]:
            raise ValueError(f"{name}: {label} is one of {metric.labels[label]}")
