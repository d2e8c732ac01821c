"""How a third-party protocol is described to homeservers."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bridge.core.intake.directory import Answers
from bridge.core.portals.plumbing import Plumbing
from bridge.matrix.intents import Intents
from tests.core.ground import NEAR, Ground
from tests.rigs.sink import SinkConnector, SinkSettings


@pytest.mark.parametrize("icon", ["", "mxc://test.example/sink"])
def test_a_networks_icon_is_the_one_that_its_module_names(icon: str, folder: Path) -> None:
    class Pictured(SinkConnector):
        info = replace(SinkConnector.info, icon=icon)

    connector = Pictured(SinkSettings(ledger=str(folder / "ledger")))
    plumbing = SimpleNamespace(instances={NEAR: SimpleNamespace(name=NEAR, connector=connector)})
    answers = Answers(cast(Plumbing, plumbing), cast(Intents, None), Ground().namespaces)
    described = answers.protocol("sink")
    assert described is not None
    assert described["icon"] == icon
