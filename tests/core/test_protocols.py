"""How a third-party protocol is described to homeservers, and who is found on its networks."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bridge import sdk
from bridge.core.intake.directory import Answers
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.matrix.intents import Intents
from bridge.sdk.ids import InstanceId
from bridge.sdk.module import Connector
from tests.core.ground import NEAR, Ground
from tests.core.instances import network
from tests.rigs.sink import SinkConnector, SinkSettings


def answers(connectors: Mapping[str, SinkConnector]) -> Answers:
    """Of instances with these connectors."""
    ground = Ground()
    for name, one in connectors.items():
        ground.instances[InstanceId(name)] = network(name, cast(Connector, one))
    plumbing = Plumbing(ground.house, Portals(ground.house))
    return Answers(plumbing, cast(Intents, None), ground.namespaces)


@pytest.mark.parametrize("icon", ["", "mxc://test.example/sink"])
def test_a_networks_icon_is_the_one_that_its_module_names(icon: str, folder: Path) -> None:
    class Pictured(SinkConnector):
        info = replace(SinkConnector.info, icon=icon)

    described = answers({NEAR: Pictured(SinkSettings(ledger=str(folder / "ledger")))}).protocol(
        "sink"
    )
    assert described is not None
    assert described["icon"] == icon


async def test_networks_that_do_not_answer_or_fail_keep_nobody_of_another_from_being_found(
    folder: Path,
) -> None:
    class Silent(SinkConnector):
        async def find_user(self, text: str) -> sdk.RemoteUser:
            await asyncio.Event().wait()
            raise AssertionError

    class Broken(SinkConnector):
        async def find_user(self, text: str) -> sdk.RemoteUser:
            raise ValueError(text)

    class Nameless(SinkConnector):
        async def find_user(self, text: str) -> sdk.RemoteUser:
            return sdk.RemoteUser(id=sdk.RemoteUserId(""), name=text)  # No ghost can be of it.

    kinds = {
        "silent": Silent, "mute": Silent, "broken": Broken, "nameless": Nameless,
        NEAR: SinkConnector,
    }  # fmt: skip
    settings = SinkSettings(ledger=str(folder / "ledger"))
    looking = answers({name: kind(settings) for name, kind in kinds.items()})
    async with asyncio.timeout(7.5):  # Those that are silent have four seconds, all at once.
        (found,) = await looking.find_users("sink", {"user": "carl"})
    assert found["fields"] == {"network": NEAR, "user": "carl"}
    for odd in ("broken", "nameless"):
        assert await looking.find_users("sink", {"user": "carl", "network": odd}) == []


async def test_of_whom_a_network_cannot_say_it_nobody_is_told_that_there_is_such_a_user(
    folder: Path,
) -> None:
    class Failing(SinkConnector):
        async def find_user(self, text: str) -> sdk.RemoteUser:
            if text == "silent":
                await asyncio.Event().wait()
            raise asyncio.CancelledError if text == "cancelled" else ValueError(text)

    looking = answers({NEAR: Failing(SinkSettings(ledger=str(folder / "ledger")))})
    ghosts = [
        Ground().namespaces.ghost(NEAR, sdk.RemoteUserId(one))
        for one in ("broken", "cancelled", "silent")
    ]
    async with asyncio.timeout(7.5):  # The homeserver does not wait for longer.
        assert [await looking.knows_user(one) for one in ghosts] == [False, False, False]
