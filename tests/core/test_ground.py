"""What stands around a portal in these tests takes what the real parts take."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.outbox.sender import Sender
from bridge.core.permissions.optouts import OptOuts
from bridge.core.rooms.catchingup import CatchingUp
from bridge.core.rooms.gathering import Gathering
from bridge.core.rooms.typingnotices import TypingNotices
from bridge.matrix.doubles import Doubles
from bridge.matrix.intents import Intents
from bridge.matrix.members import Members
from bridge.matrix.roomlists import RoomLists
from bridge.matrix.rooms import RoomQuestions
from bridge.storage.audit import Audit
from bridge.storage.portals import PortalStore
from tests.core.ground import Ground

REAL = (
    PortalStore, Audit, Sender, RoomQuestions, Members, RoomLists, DoublePuppets, OptOuts,
    Gathering, CatchingUp, TypingNotices, Intents, Doubles,
)  # fmt: skip
OWN = {"arrive"}
"""What a test tells it, and nobody else."""
METHODS = {
    name: method for name, method in vars(Ground).items()
    if inspect.isfunction(method) and not name.startswith("_") and name not in OWN
}  # fmt: skip


def least_of(real: Callable[..., Any]) -> tuple[list[None], dict[str, None]]:
    """What a call of it has at least."""
    needed = [
        one for one in inspect.signature(real).parameters.values()
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]  # fmt: skip
    named = {one.name: None for one in needed if one.kind is one.KEYWORD_ONLY}
    return [None for one in needed if one.name not in named], named


@pytest.mark.parametrize("name", METHODS)
def test_it_can_be_asked_as_the_real_one_is(name: str) -> None:
    ours = METHODS[name]
    real = [getattr(one, name) for one in REAL if hasattr(one, name)]
    assert real
    for one in real:
        assert inspect.iscoroutinefunction(ours) is inspect.iscoroutinefunction(one)
        some, named = least_of(one)
        inspect.signature(ours).bind(*some, **named)  # Raises what does not fit.
