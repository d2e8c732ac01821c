"""A secret that somebody says in a command is found, however wrong the command is."""

from typing import Any, cast

import pytest

from bridge.core.commands.confidences import holds_key
from bridge.core.commands.networkcommands import NetworkCommands
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.sdk.commands import NetworkCall, NetworkCommand, Where
from bridge.sdk.ids import InstanceId
from tests.core.ground import Ground
from tests.core.instances import Line, network


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("bridge libera #channel", False),
        ("bridge libera #channel sesame", True),
        ("Bridge  libera\n#channel sesame", True),
        ("brigde libera #channel sesame", True),
        ("bridge #channel sesame", True),
        ("bridge libera", False),
        ("unbridge libera #channel sesame", False),
        ("set follow all", False),
        ("help bridge", False),
        ("", False),
    ],
)
def test_what_may_be_a_key_is_found(text: str, is_there: bool) -> None:
    assert holds_key(text) is is_there


class Commanded(Line):
    """A network that takes a command."""

    def __init__(self, command: NetworkCommand) -> None:
        super().__init__()
        self.commands = (command,)


def knowing(*secrets_after: int | None) -> NetworkCommands:
    """Of networks that all take ``pass``: after so many words each takes a secret there."""

    async def run(call: NetworkCall) -> str:
        return ""

    ground, nothing = Ground(), cast(Any, None)
    for number, after in enumerate(secrets_after):
        command = NetworkCommand(
            name="pass", usage="pass", help="pass", where=Where.PERSON, run=run,
            secret_after=after,
        )  # fmt: skip
        name = f"near{number}"
        ground.instances[InstanceId(name)] = network(name, Commanded(command))
    portals = Portals(ground.house)
    plumbing = Plumbing(ground.house, portals)
    return NetworkCommands(plumbing, nothing, nothing, nothing, nothing, nothing, nothing)


@pytest.mark.parametrize(
    ("secrets_after", "is_there"),
    [((0, None), True), ((None, 0), True), ((0, 5), True), ((5, 0), True), ((None, 5), False)],
)
def test_a_secret_of_one_network_is_none_the_less_for_another_that_has_the_same_command(
    secrets_after: tuple[int | None, ...], is_there: bool
) -> None:
    assert knowing(*secrets_after).is_secret("pas sesame") is is_there
