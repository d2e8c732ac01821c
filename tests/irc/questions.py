"""What commands have a client ask, from the side of the scripted server that is asked."""

from tests.irc.stage import synced
from tests.rigs.scripted_irc import Peer


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
