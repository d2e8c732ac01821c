"""What a client does by its network's own means, where it has them."""

from bridge.sdk.capabilities import Capabilities, Level
from bridge.sdk.errors import Unsupported
from bridge.sdk.events import Edit, Reaction, Receipt, Redaction
from bridge.sdk.module import Client, SendsEdits, SendsReactions, SendsRedactions

Act = Edit | Reaction | Redaction
"""What is done to a message."""


def level_of(act: Act, capabilities: Capabilities) -> Level:
    """How well the act crosses."""
    match act:
        case Edit():
            return capabilities.edits
        case Reaction():
            return capabilities.reactions
        case Redaction():
            return capabilities.redactions


async def act(client: Client, act: Act) -> Receipt | None:
    """Do it; None if the client leaves it out.

    Raises ``Unsupported`` if the client has no such means, and what it raises itself.
    """
    match act:
        case Edit() if isinstance(client, SendsEdits):
            return await client.send_edit(act)
        case Reaction() if isinstance(client, SendsReactions):
            return await client.send_reaction(act)
        case Redaction() if isinstance(client, SendsRedactions):
            return await client.send_redaction(act)
    raise Unsupported("the network has no such feature")
