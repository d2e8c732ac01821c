"""Bans of people by patterns of their nicks, as a policy list wishes them."""

import pytest

from bridge.networks.irc import bans
from bridge.networks.irc.isupport import Isupport
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId

ROOM = RemoteChat(id=RemoteChatId("#room"), name="#Room")


def said(add: list[str], lift: list[str], *tokens: str) -> list[tuple[str, ...]]:
    limits = Isupport().with_tokens(tokens)
    return [(one.command, *one.params) for one in bans.lines(ROOM, add, lift, limits)]


def test_as_many_go_into_a_line_as_the_server_takes() -> None:
    assert said(["a", "b*"], ["c"], "MODES=4") == [
        ("MODE", "#Room", "-b", "c!*@*"), ("MODE", "#Room", "+bb", "a!*@*", "b*!*@*"),
    ]  # fmt: skip
    nicks = [f"n{number}" for number in range(7)]
    for token, sizes in (
        ("MODES=1", [1] * 7),
        ("X", [3, 3, 1]),
        ("MODES=6", [6, 1]),
        ("MODES", [7]),
    ):
        assert [len(one) - 3 for one in said(nicks, [], token)] == sizes, token


def test_no_line_is_longer_than_a_line_and_no_mask_is_lost() -> None:
    nicks = [f"{number:x<90}" for number in range(20)]
    lines = bans.lines(ROOM, nicks, [], Isupport().with_tokens(["MODES"]))
    assert max(len(one.encode()) for one in lines) <= 512
    assert [mask for one in lines for mask in one.params[2:]] == [f"{nick}!*@*" for nick in nicks]
    for one in lines:
        assert one.params[1] == "+" + "b" * (len(one.params) - 2)


@pytest.mark.parametrize(
    "pattern", ["a b", "a,b", "a!b", "a@b", ":a", "+o", "-b", "$a:x", "a\r\nQUIT", ""]
)
def test_what_can_be_no_nick_is_left_out(pattern: str) -> None:
    assert bans.choose([pattern, "spam*"], ["trestle"], Isupport()) == ["spam*"]


def test_nobody_of_us_is_banned() -> None:
    own = ["Trestle", "al[ce"]
    assert bans.choose(["t*", "TRESTLE", "al{?e", "carl"], own, Isupport()) == ["carl"]
