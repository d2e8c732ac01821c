"""The bans of a chat, as its network has them."""

from collections.abc import Sequence

from bridge.core.lanes.cancellation import outliving_module
from bridge.core.traffic.doorway import Doorway
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.module import BansChats, SeesPeople


async def find_bans(door: Doorway, client: BansChats, patterns: Sequence[str]) -> set[str]:
    """Those of the patterns that the chat bans. Raises a ``DeliveryError``."""
    _refuse_to_come_back(door, client)
    with outliving_module("find bans"):
        return set(await client.find_bans(door.chat, patterns))


async def change_bans(
    door: Doorway, client: BansChats, add: Sequence[str], lift: Sequence[str]
) -> None:
    """Ban by these patterns in the chat, and no more by those. Raises a ``DeliveryError``."""
    _refuse_to_come_back(door, client)
    with outliving_module("change bans"):
        await client.change_bans(door.chat, add, lift)


def _refuse_to_come_back(door: Doorway, client: BansChats) -> None:
    """Raise ``TemporaryFailure`` where those who run the chat have ended its bridge, and the
    relay is not seen to be there still: to ask for bans, or to change them, it would come in."""
    if not door.facts.is_ended:
        return
    with outliving_module("say who is in a chat"):
        if not isinstance(client, SeesPeople) or client.seen(door.portal.chat) is None:
            raise TemporaryFailure(f"the bridge of {door.portal.chat_name} was ended")
