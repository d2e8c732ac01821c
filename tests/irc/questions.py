"""Commands that ask the server, and the scripted server that is asked."""

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Sender
from tests.irc.commands import BY_NAME, Call
from tests.irc.stage import chat, synced, user_id
from tests.rigs.scripted_irc import Peer


async def say(said: str, relay: IrcClient, own: IrcClient | None = None, channel: str = "") -> str:
    """Give a command, in the channel's room if one is named; return the answer."""
    name, _, text = said.partition(" ")
    return await BY_NAME[name].run(
        Call(
            sender=Sender(user_id=user_id("Alice"), name="Alice"), text=text, own=own, relay=relay,
            chat=chat(channel) if channel else None,
        )
    )  # fmt: skip


async def refused(said: str, relay: IrcClient, channel: str, own: IrcClient | None = None) -> str:
    """Give a command that is refused, in the channel's room; return why."""
    with pytest.raises(PermanentFailure) as refusal:
        await say(said, relay, own, channel)
    return str(refusal.value)


async def settled(peer: Peer) -> None:
    """Wait until all is asked that is asked of a channel that we come into; be silent then."""
    await peer.expect("MODE #room b")
    await synced(peer)
    peer.pong = None


async def pong(peer: Peer) -> None:
    """Answer the PING by which the client sees that all was worked through."""
    peer.say(f":irc.test PONG irc.test :{await asked(peer)}")


async def asked(peer: Peer) -> str:
    """Wait for that PING; return its marker."""
    return (await peer.expect("PING ")).removeprefix("PING ")
