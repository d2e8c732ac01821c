"""What every module gets of us, whether it is a network's or a bot."""

import logging
from datetime import datetime

from bridge.model import Clock
from bridge.sdk.ids import InstanceId
from bridge.sdk.log import ModuleLog
from bridge.sdk.metrics import check_use
from bridge.sdk.module import ModuleInfo, Store
from bridge.telemetry import Telemetry


class InstanceMetrics:
    """What one instance counts. Raises ``ConfigError`` for a declaration that clashes."""

    def __init__(self, telemetry: Telemetry, instance: InstanceId, info: ModuleInfo) -> None:
        self._instance = instance
        self._declared = info.metrics
        self._counters = {
            metric.name: telemetry.count_module(info.id, instance, metric)
            for metric in info.metrics
            if not metric.buckets
        }
        self._histograms = {
            metric.name: telemetry.measure_module(info.id, instance, metric)
            for metric in info.metrics
            if metric.buckets
        }

    def count(self, name: str, labels: dict[str, str]) -> None:
        """Count one more."""
        check_use(self._declared, name, labels, measured=False)
        self._counters[name].labels(instance=self._instance, **labels).inc()

    def observe(self, name: str, value: float, labels: dict[str, str]) -> None:
        """Add one measured value."""
        check_use(self._declared, name, labels, measured=True)
        self._histograms[name].labels(instance=self._instance, **labels).observe(value)


class InstanceHost:
    """What ``sdk.Host`` and ``sdk.BotHost`` have in common; holds no token and no pool."""

    def __init__(
        self,
        instance: InstanceId,
        store: Store,
        clock: Clock,
        metrics: InstanceMetrics,
        *,
        personal: bool = False,
    ) -> None:
        self._instance = instance
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._log = ModuleLog(instance, personal=personal)

    @property
    def instance(self) -> InstanceId:
        """The instance's name in the config."""
        return self._instance

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the instance."""
        return self._log

    @property
    def store(self) -> Store:
        """The instance's durable map."""
        return self._store

    def now(self) -> datetime:
        """The time in UTC."""
        return self._clock.now()

    def count(self, name: str, /, **labels: str) -> None:
        """Count one more of a declared metric."""
        self._metrics.count(name, labels)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add a value to a declared histogram."""
        self._metrics.observe(name, value, labels)
