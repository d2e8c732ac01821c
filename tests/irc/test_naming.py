"""What a connection says of whose it is, and whom to turn to."""

from typing import Any

import pytest

from tests.irc.stage import a_listener, a_speaker
from tests.rigs.scripted_irc import Peer

CONTACT = "admin@example.org"


async def said_of_itself(peer: Peer) -> tuple[str, str]:
    """The real name, and the answer to CTCP VERSION."""
    (signed_in,) = [one for one in peer.heard if one.startswith("USER ")]
    peer.say(":bob!b@h PRIVMSG {nick} :\x01VERSION\x01")
    answer = await peer.expect("NOTICE bob :\x01VERSION ")
    return signed_in.partition(" :")[2], answer.partition(" :")[2].strip("\x01")


@pytest.mark.parametrize(
    ("settings", "realname", "version"),
    [
        ({"contact": CONTACT},
         "@alice:example.org (Trestle, a bridge to Matrix; contact: admin@example.org)",
         "Trestle, a bridge to Matrix, for @alice:example.org; contact: admin@example.org"),
        ({}, "@alice:example.org (Trestle, a bridge to Matrix)",
         "Trestle, a bridge to Matrix, for @alice:example.org"),
        ({"contact": CONTACT, "show_matrix_ids": False},
         "Trestle, a bridge to Matrix, for a Matrix user; contact: admin@example.org",
         "Trestle, a bridge to Matrix, for a Matrix user; contact: admin@example.org"),
    ],
)  # fmt: skip
async def test_a_persons_connection_says_whose_it_is_and_whom_to_turn_to_as_set(
    settings: dict[str, Any], realname: str, version: str
) -> None:
    async with a_speaker(**settings) as (_, _, peer, _):
        assert await said_of_itself(peer) == (realname, f"VERSION {version}")


async def test_the_relay_says_that_it_is_a_bridge_and_whom_to_turn_to() -> None:
    async with a_listener(contact=CONTACT) as (_, _, peer, _):
        realname, version = await said_of_itself(peer)
        assert version == f"VERSION {realname}"
        assert realname.startswith("Trestle, a bridge to Matrix")
        assert realname.endswith(f"; contact: {CONTACT}")
