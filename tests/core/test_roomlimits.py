"""How many rooms a network may have here, and how fast whoever may have them made."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from bridge.core.portals.roomlimits import RoomLimits
from bridge.model import InstanceRules
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId
from tests.storage.conftest import TurnedClock

NEAR, FAR = InstanceId("near"), InstanceId("far")


class Ground:
    """Bridged chats, and what may come to them."""

    def __init__(self, **rules: int) -> None:
        self.clock = TurnedClock()
        self.there: list[RemoteChat] = []
        self.rules = InstanceRules(**rules)  # type: ignore[arg-type]
        self.limits = RoomLimits(lambda _: self.rules, self.chats, self.clock)

    def chats(self, instance: InstanceId) -> Sequence[RemoteChat]:
        return self.there if instance == NEAR else []

    def make(self, name: str, *, by_alias: bool = False) -> None:
        """Have a room of that chat."""
        chat = RemoteChat(id=RemoteChatId(name), name=name)
        with self.limits.place(NEAR, chat.id, by_alias=by_alias):
            self.there.append(chat)

    def may(self, name: str, *, by_alias: bool = False) -> bool:
        try:
            self.limits.check(NEAR, RemoteChatId(name), by_alias=by_alias)
        except DeliveryError:
            return False
        return True


def test_a_network_has_no_more_rooms_than_its_settings_allow() -> None:
    ground = Ground(most_rooms=2)
    ground.make("#one")
    # One that is being made takes its place already, and takes it once.
    with ground.limits.place(NEAR, RemoteChatId("#two")):
        assert not ground.may("#three")
        ground.there.append(RemoteChat(id=RemoteChatId("#two"), name="#two"))
        with pytest.raises(PermanentFailure, match=r"near has as many bridged rooms .*\(2\);"):
            ground.make("#three")
    ground.limits.check(FAR, RemoteChatId("#three"))
    ground.there.pop()
    assert ground.may("#three")


def test_what_could_not_be_made_leaves_its_place_to_others() -> None:
    ground = Ground(most_rooms=1, alias_rooms_hourly=1)
    with (
        pytest.raises(ValueError, match="no"),
        ground.limits.place(NEAR, RemoteChatId("#one"), by_alias=True),
    ):
        raise ValueError("no")
    ground.make("#two", by_alias=True)


def test_whoever_names_an_alias_has_so_many_rooms_made_in_an_hour() -> None:
    ground = Ground(alias_rooms_hourly=2)
    ground.make("#one", by_alias=True)
    ground.clock.ahead += timedelta(minutes=40)
    ground.make("#two", by_alias=True)
    with pytest.raises(TemporaryFailure, match="as many rooms of near were made by alias"):
        ground.make("#three", by_alias=True)
    # Who is known here is not held up by that.
    ground.make("#known")
    ground.clock.ahead += timedelta(minutes=21)
    ground.make("#three", by_alias=True)
    assert not ground.may("#four", by_alias=True)
    ground.rules = InstanceRules(alias_rooms_hourly=0)
    ground.clock.ahead += timedelta(hours=2)
    assert not ground.may("#four", by_alias=True)


def test_rooms_that_were_made_while_the_clock_was_ahead_hold_up_nobody_once_it_is_right() -> None:
    ground = Ground(alias_rooms_hourly=1)
    ground.clock.ahead = timedelta(days=30)
    ground.make("#one", by_alias=True)
    ground.clock.ahead = timedelta()
    ground.make("#two", by_alias=True)
    assert not ground.may("#three", by_alias=True)


def test_that_no_more_are_made_is_a_warning_once_an_hour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ground = Ground(alias_rooms_hourly=0, most_rooms=1)
    for _ in range(3):
        assert not ground.may("#one", by_alias=True)
    assert [one.event for one in caplog.records] == ["too_many_rooms"]  # type: ignore[attr-defined]
    ground.make("#one")
    assert not ground.may("#two")
    ground.clock.ahead += timedelta(minutes=61)
    assert not ground.may("#three", by_alias=True)
    assert not ground.may("#three")
    assert len(caplog.records) == 3
