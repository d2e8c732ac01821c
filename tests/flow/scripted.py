"""Who and what is there in the tests at a scripted homeserver."""

from typing import Any

from bridge.core.traffic.doorway import Doorway
from bridge.model import Subscription
from bridge.running.parts import Parts
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.policies import PolicyStore
from tests.conformance.stage import ALICE, DICE
from tests.rigs.irc_user import IrcUser
from tests.rigs.scripted_homeserver import SERVER

LIST = RoomId(f"!list:{SERVER}")
BEA = UserId("@bea:elsewhere.example")
ANN = UserId(f"@ann:{SERVER}")


async def follow_a_list(parts: Parts, door: Doorway, operator: IrcUser) -> None:
    """Have the room follow a list that is empty by now; a ban that came of it is there still."""
    chat = door.portal.chat_name
    operator.say(f"MODE {chat} +o trestle", f"MODE {chat} +b spam*!*@*")
    await operator.wait_for_answer_of("trestle")
    store, portal = PolicyStore(parts.database), door.portal.id
    await store.put(
        Subscription(portal=portal, room=LIST, by=UserId(ALICE), applied=True, agreed=True)
    )
    await store.add_bans(portal, ["spam*"])
    await parts.policies.load()
    await parts.policies.read(LIST)


def invite(room: str, user: str = DICE, name: str = "", **changes: Any) -> dict[str, Any]:
    """The event by which Alice invites one of ours."""
    return {
        "type": "m.room.member", "state_key": user, "event_id": f"$invites-{room}-{name}",
        "room_id": room, "sender": ALICE, "origin_server_ts": 1,
        "content": {"membership": "invite"}, **changes,
    }  # fmt: skip
