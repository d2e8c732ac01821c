"""``docs/reference/metrics.md``: every metric, and every alert on them."""

from collections.abc import Iterator, Sequence

from bridge.core.host.catalogue import describe, installed
from bridge.manual.alerts import ALERTS
from bridge.manual.words import table
from bridge.telemetry import Documented, Telemetry

_HEAD = """\
# Metrics and alerts

`http://127.0.0.1:9184/metrics` (`ops.listen`) serves them in the format of Prometheus.
[deploy/prometheus](../../deploy/prometheus/prometheus.yml) asks there and has the alerts;
[deploy/grafana/trestle.json](../../deploy/grafana/trestle.json) is a board to import into Grafana.
[How to watch over it](../how-to/watch.md).

Label values come from closed sets, or are instances of your `config.yaml`: no id of a person or
room, no name and no address becomes one, and only your settings decide how many series there are.
Every combination of a closed set is there from the start, at 0. Prometheus keeps the label
`instance` for the address that it asks, and shows a module's as `exported_instance`.

A histogram `x` is `x_bucket`, `x_sum` and `x_count`; a name in `_seconds` is in seconds.

## Of the program

"""


def metrics_page() -> str:
    """The text of the page."""
    parts = [_HEAD, table(("metric", "kind", "labels", "what it says"), _rows(core_metrics()))]
    parts += ["\n## Of the modules that are shipped\n\n"]
    parts += [table(("metric", "kind", "labels", "what it says"), _rows(module_metrics()))]
    parts += ["\n## Alerts\n\n`page`: somebody is to look now. `ticket`: in the next days.\n\n"]
    rows = [
        (f"[{one.name}](../../{one.page})", one.severity, f"`{one.expression}`", one.lasting)
        for one in ALERTS
    ]
    parts += [table(("alert", "severity", "when", "for"), rows)]
    return "".join(parts)


def core_metrics() -> Sequence[Documented]:
    """The program's own, in the order of their declaration."""
    return Telemetry().documented


def module_metrics() -> Sequence[Documented]:
    """What the installed modules declare."""
    telemetry = Telemetry()
    own = len(telemetry.documented)
    for name, module in sorted(installed().items()):
        for metric in describe(module)[0].metrics:
            make = telemetry.measure_module if metric.buckets else telemetry.count_module
            make(name, name, metric)
    return telemetry.documented[own:]


def _rows(metrics: Sequence[Documented]) -> Iterator[tuple[str, ...]]:
    for metric in metrics:
        labels = [
            f"`{name}`: {', '.join(values) or 'as in the settings'}"
            for name, values in metric.labels.items()
        ]
        yield f"`{metric.name}`", metric.kind, "; ".join(labels), metric.help
