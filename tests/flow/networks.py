"""The IRC networks that are bridged in these tests."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from bridge.core.host.instances import Instance
from bridge.demo.matrix_user import PATIENCE
from bridge.sdk.ids import InstanceId
from tests.rigs.inspircd import run_inspircd
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import wait_until

Modules = dict[str, tuple[str, dict[str, object]]]
"""The module and its options for each network."""
NEAR = InstanceId("near")
Run = Callable[[], AbstractAsyncContextManager[IrcServer]]
RUN: dict[str, Run] = {"ngircd": run_ngircd, "inspircd": run_inspircd}
on_each_server = pytest.mark.parametrize("run", list(RUN.values()), ids=list(RUN))
"""For a scenario that has a server to itself."""
one_after_another = pytest.mark.parametrize(
    "irc", list(RUN.values()), ids=list(RUN), indirect=True, scope="module"
)
"""For a file whose scenarios share a server, of each kind."""


def irc_module(server: IrcServer, **more: object) -> Modules:
    """The network ``near``, which hears all at once."""
    server_options = {"host": "127.0.0.1", "port": server.port, "tls": False}
    options = {"servers": [server_options], "own_network": True}
    fast = {"flood_burst": 50, "flood_rate": 50}
    return {"near": ("irc", {**options, **fast, **more})}


async def connected(network: Instance) -> Instance:
    """The network, once its relay is connected."""
    await wait_until(lambda: network.relay is not None)
    assert await network.wait_until_connected(PATIENCE)
    return network
