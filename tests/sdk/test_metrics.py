"""Metrics of modules: declared, closed, with the instance as a label, and nothing else."""

from typing import Any

import pytest

from bridge.bots.dice.bot import DiceBot
from bridge.bots.dice.settings import DiceSettings
from bridge.core.host.hosting import InstanceMetrics
from bridge.sdk import ConfigError, InstanceId, Metric, ModuleInfo
from bridge.sdk.testing import FakeBotHost, FakeRoom
from bridge.telemetry import Telemetry

SEEN = Metric(name="seen", help="What was seen.", labels={"kind": ("cat", "dog")})
TOOK = Metric(name="took_seconds", help="How long it took.", buckets=(0.1, 1))


def info(*metrics: Metric, module: str = "zoo") -> ModuleInfo:
    return ModuleInfo(id=module, name="Zoo", summary="Looks at animals.", metrics=metrics)


def metrics_of(telemetry: Telemetry, *metrics: Metric, instance: str = "a") -> InstanceMetrics:
    return InstanceMetrics(telemetry, InstanceId(instance), info(*metrics))


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(f"trestle_module_{name}", labels)


def test_two_instances_of_a_module_share_a_metric_and_begin_at_nothing() -> None:
    telemetry = Telemetry()
    one, _ = (metrics_of(telemetry, SEEN, TOOK, instance=name) for name in ("a", "b"))
    one.count("seen", {"kind": "cat"})
    one.observe("took_seconds", 0.5, {})
    assert value(telemetry, "zoo_seen_total", instance="a", kind="cat") == 1
    for instance, kind in (("a", "dog"), ("b", "cat"), ("b", "dog")):
        assert value(telemetry, "zoo_seen_total", instance=instance, kind=kind) == 0
    assert value(telemetry, "zoo_took_seconds_bucket", instance="a", le="1.0") == 1
    assert value(telemetry, "zoo_took_seconds_count", instance="b") == 0
    assert [d.name for d in telemetry.documented].count("trestle_module_zoo_seen_total") == 1


@pytest.mark.parametrize(
    ("name", "labels", "sentence"),
    [
        ("other", {}, "not declared"),
        ("seen", {}, "has the labels"),
        ("seen", {"kind": "cat", "room": "!r"}, "has the labels"),
        ("seen", {"kind": "@alice:example.org"}, "is one of"),
        ("took_seconds", {}, "observe"),
    ],
)
def test_what_is_not_declared_is_not_counted(
    name: str, labels: dict[str, str], sentence: str
) -> None:
    telemetry = Telemetry()
    metrics = metrics_of(telemetry, SEEN, TOOK)
    with pytest.raises(ValueError, match=sentence):
        metrics.count(name, labels)
    host = FakeBotHost(info=info(SEEN, TOOK))
    with pytest.raises(ValueError, match=sentence):
        host.count(name, **labels)
    assert host.counted == []
    with pytest.raises(ValueError, match="count"):
        metrics.observe("seen", 1, {"kind": "cat"})


@pytest.mark.parametrize(
    "declared",
    [
        {"name": "Seen"},
        {"name": "seen_"},
        {"name": "__seen"},
        {"help": ""},
        {"labels": {"instance": ("a",)}},
        {"labels": {"kind": ()}},
        {"labels": {"kind": ("@alice:example.org",)}},
        {"labels": {"kind": ("https://example.org/",)}},
        {"labels": {"kind": ("#room",)}},
        {"labels": {"kind": ("x" * 41,)}},
        {"labels": {"kind": tuple(f"v{number}" for number in range(101))}},
        {"buckets": (2, 1)},
        {"buckets": (1, 1)},
    ],
    ids=repr,
)
def test_a_declaration_that_would_be_a_bad_metric_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Metric(**{"name": "seen", "help": "What was seen.", **declared})


def test_two_modules_cannot_declare_one_metric_differently() -> None:
    telemetry = Telemetry()
    metrics_of(telemetry, SEEN)
    for other in (
        Metric(name="seen", help="Something else."),
        Metric(name="seen", help="Something else.", buckets=(1,)),
    ):
        with pytest.raises(ConfigError, match="another's already"):
            metrics_of(telemetry, other)
    metrics_of(telemetry, Metric(name="x", help="A histogram.", buckets=(1,)))
    with pytest.raises(ConfigError, match="another's already"):
        metrics_of(telemetry, Metric(name="x_count", help="Its twin."), instance="b")


async def test_the_dice_bot_counts_its_throws() -> None:
    host = FakeBotHost()
    room = FakeRoom(DiceBot(DiceSettings(), host), host)
    for text in ("!roll 2d6", "!flip", "!choose a or b", "!roll 0d6"):
        await room.say(text)
    assert [labels["what"] for _, labels in host.counted] == ["roll", "flip", "choice"]
