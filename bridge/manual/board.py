"""``deploy/grafana/trestle.json``: a board with a panel for each metric."""

import json
from collections.abc import Iterator
from typing import Any

from bridge.manual.metrics import core_metrics, module_metrics
from bridge.telemetry import Documented

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_TARGET = 'instance=~"$target"'
_WIDTH, _HEIGHT = 8, 7
_WORST_IS_LEAST = ("_up", "_by_homeserver", "_free_bytes")
_QUANTILES = {"half": "0.5", "19 of 20": "0.95", "99 of 100": "0.99"}

_GLANCE = (
    ("Homeserver", f"min(trestle_homeserver_up{{{_TARGET}}})", "up"),
    ("Database", f"min(trestle_database_up{{{_TARGET}}})", "up"),
    ("Parked", f"sum(trestle_parked_items{{{_TARGET}}})", "none"),
    ("Oldest unfinished item", f"max(trestle_oldest_item_seconds{{{_TARGET}}})", "s"),
)


def board_file() -> str:
    """The text of the file."""
    return json.dumps(board(), indent=1) + "\n"


def board() -> dict[str, Any]:
    """The board as Grafana imports it."""
    return {
        "title": "Trestle",
        "uid": "trestle",
        "description": "Made by `python -m bridge.manual`.",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "tags": ["matrix", "trestle"],
        "templating": {"list": [_datasource(), _target()]},
        "annotations": {"list": []},
        "panels": [{**panel, "id": number} for number, panel in enumerate(_panels(), 1)],
    }


def expressions() -> list[str]:
    """Every query of the board."""
    return [target["expr"] for panel in board()["panels"] for target in panel.get("targets", ())]


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _target() -> dict[str, Any]:
    return {
        "name": "target", "type": "query", "label": "Trestle", "datasource": _SOURCE,
        "query": "label_values(trestle_homeserver_up, instance)", "refresh": 2,
        "includeAll": True, "allValue": ".*", "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panels() -> Iterator[dict[str, Any]]:
    for index, (title, query, unit) in enumerate(_GLANCE):
        yield _stat(title, query, unit, x=index * 6)
    y = 4
    for heading, metrics in (("The program", core_metrics()), ("Modules", module_metrics())):
        yield {"type": "row", "title": heading, "gridPos": _place(0, y, 24, 1), "panels": []}
        y += 1
        for index, metric in enumerate(metrics):
            x = index % 3 * _WIDTH
            yield _graph(metric, x, y + index // 3 * _HEIGHT)
        y += -(-len(metrics) // 3) * _HEIGHT


def _stat(title: str, query: str, unit: str, x: int) -> dict[str, Any]:
    is_switch = unit == "up"
    words = [{"type": "value", "options": {"0": {"text": "away"}, "1": {"text": "up"}}}]
    steps = [
        {"color": "red" if is_switch else "green", "value": None},
        {"color": "green" if is_switch else "orange", "value": 1 if unit != "s" else 60},
    ]
    return {
        "type": "stat", "title": title, "datasource": _SOURCE,
        "gridPos": _place(x, 0, 6, 4),
        "targets": [{"refId": "A", "expr": query, "datasource": _SOURCE}],
        "fieldConfig": {
            "defaults": {
                "unit": "none" if is_switch else unit,
                "mappings": words if is_switch else [],
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"},
    }  # fmt: skip


def _graph(metric: Documented, x: int, y: int) -> dict[str, Any]:
    unit = _unit(metric.name)
    return {
        "type": "timeseries",
        "title": metric.name.removeprefix("trestle_").removesuffix("_total").replace("_", " "),
        "description": metric.help, "datasource": _SOURCE,
        "gridPos": _place(x, y, _WIDTH, _HEIGHT),
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend,
             "datasource": _SOURCE}
            for number, (query, legend) in enumerate(_queries(metric))
        ],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}},
    }  # fmt: skip


def _queries(metric: Documented) -> Iterator[tuple[str, str]]:
    labels = ["exported_instance" if name == "instance" else name for name in metric.labels]
    legend = " ".join(f"{{{{{name}}}}}" for name in labels) or metric.help
    by = f" by ({', '.join(labels)})" if labels else ""
    if metric.kind == "counter":
        yield f"sum{by} (rate({metric.name}{{{_TARGET}}}[$__rate_interval]))", legend
    elif metric.kind == "gauge":
        # Of several programs the worst: ages do not add up, and an `up` still less.
        of = "min" if metric.name.endswith(_WORST_IS_LEAST) else "max"
        of = "sum" if labels else of
        if metric.name.endswith("_timestamp_seconds"):
            yield f"time() - min({metric.name}{{{_TARGET}}} > 0)", "How long ago."
        else:
            yield f"{of}{by} ({metric.name}{{{_TARGET}}})", legend
    else:
        by = ", ".join([*labels, "le"])
        rate = f"sum by ({by}) (rate({metric.name}_bucket{{{_TARGET}}}[$__rate_interval]))"
        for words, quantile in _QUANTILES.items():
            name = f"{legend}: {words}" if labels else words
            yield f"histogram_quantile({quantile}, {rate})", name


def _unit(name: str) -> str:
    if name.endswith("_bytes"):
        return "bytes"
    return "s" if name.endswith("_seconds") else "short"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}
