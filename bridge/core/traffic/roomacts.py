"""What is done to a room, brought to its chat: the topic, powers, who has to go."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from bridge.core.host.instances import Instance
from bridge.core.lanes.lane import Item
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.house import House
from bridge.core.rooms.ranks import POWERS
from bridge.core.traffic.telling import tell
from bridge.matrix.client import MatrixError, heed_token
from bridge.matrix.htmltree import clean
from bridge.matrix.standing import Standing
from bridge.model import Follow, Permission, Portal
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import Rank, RemoteChat, Removal
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.module import ManagesChats

log = logging.getLogger(__name__)

KINDS = frozenset({"m.room.topic", "m.room.power_levels", "m.room.tombstone"})
"""State whose changes are brought to the chat, beside memberships."""
_OURS = ("m.room.power_levels", "m.room.join_rules", "m.bridge")
"""What our bot puts into a room of what its chat is, and that it is bridged."""
_REASON = "as decided in Matrix"
_LONGEST_REASON = 120
"""Characters: networks cut it, and who did it stands at its end."""
LATE_SECONDS = 60.0
"""After so long what was done in the room is no longer done to a person of the network:
somebody else may go by that name by then."""
CLOCKS_SECONDS = 240.0
"""A homeserver's clock may be so far behind ours, and what is done there count as done now."""

Act = Callable[[ManagesChats], Awaitable[None]]


class RoomActs:
    """One portal's. Whoever does it does so by their own connection, else by the relay's.

    The room lets somebody do it, or the event would not be; the network says what the connection
    may. What it refuses is told in the room.
    """

    def __init__(self, portal: Portal, house: House, facts: ChatFacts) -> None:
        self._house = house
        self._facts = facts
        self.on_empowered: Callable[[], None]
        """Called when people have let our bot do more in the room."""
        self._chat = RemoteChat(id=portal.chat, name=portal.chat_name)

    @property
    def _portal(self) -> Portal:
        return self._facts.portal

    async def handle(self, item: Item) -> None:
        """Bring a change of the room's state to the chat. Raises ``TemporaryFailure``."""
        event = item.event
        item.drop()
        if event["type"] == "m.room.topic":
            await self._set_topic(item)
        elif event["type"] == "m.room.power_levels":
            # First: what is done to a ghost is done soon, or not at all.
            await self._set_ranks(item)
            await self._see_powers(event)

    async def overhear(self, event: dict[str, Any]) -> None:
        """Take what is said or done in the room and does not cross: it tells what is there."""
        self._facts.topic.overhear(event)
        if event["type"] == "m.room.power_levels":
            await self._see_powers(event)

    async def _see_powers(self, event: dict[str, Any]) -> None:
        """Do what our bot may do since a change of the room's powers."""
        if self._may_more(event):
            self._facts.note_behind()
            self.on_empowered()
            await self._facts.review_soon()
        elif self._portal.quieted:
            # We may have the power back to lift what we could not lift.
            await self._facts.review_soon()

    async def remove(self, item: Item) -> None:
        """Put out of the chat somebody of the network who was put out of the room."""
        event = item.event
        ghost = self._house.namespaces.parse_ghost(str(event.get("state_key")))
        if self._portal.follow is Follow.NOTHING or ghost is None:
            return
        if ghost[0] != self._portal.instance or self._house.namespaces.is_ours(event["sender"]):
            return
        membership = event["content"].get("membership")
        how = {"ban": Removal.BAN, "leave": Removal.KICK}.get(str(membership))
        if how is Removal.KICK and await self._was_banned(event):
            how = Removal.UNBAN
        if how is None:
            return
        reason = clean(str(event["content"].get("reason") or _REASON))[:_LONGEST_REASON]
        person = RemoteUserId(ghost[1])
        instance = self._house.instances.get(self._portal.instance)
        relay = instance.relay.client if instance is not None and instance.relay else None

        async def act(client: ManagesChats) -> None:
            # By the relay it could be anybody's act.
            said = f"{reason} ({event['sender']})" if client is relay else reason
            await client.remove(self._chat, person, how, said)

        await self._do(item, f"{how.value} of {ghost[1]}", act, to_ghost=True)

    def check(self, sender: UserId) -> None:
        """Raise why nothing of somebody reaches the chat, whatever power they have in the room:
        ``PermanentFailure``, or ``TemporaryFailure`` while that is not known yet."""
        house, portal = self._house, self._portal
        if portal.id in house.policies.waiting:
            raise TemporaryFailure("this room's policy lists are being read", retry_after=1)
        if house.permissions.of(sender, portal.instance) < Permission.RELAY:
            raise PermanentFailure(f"the settings of this bridge do not let {sender} do that")
        if house.blocks.cover(portal.instance, portal.chat, sender):
            raise PermanentFailure(f"those who run {portal.chat_name} take nothing of {sender}")
        if house.policies.cover(portal.id, sender):
            raise PermanentFailure(f"this room's policy lists keep {sender} out")

    # --- inside ---

    async def _set_topic(self, item: Item) -> None:
        topic = item.event["content"].get("topic")
        if self._portal.follow is Follow.NOTHING or not isinstance(topic, str):
            return
        topic = clean(topic)
        self._facts.topic.note(topic)
        await self._do(
            item, "change of the topic", lambda client: client.set_topic(self._chat, topic)
        )

    def _may_more(self, event: dict[str, Any]) -> bool:
        """Whether our bot may do something in the room that it might not before, as far as the
        event itself says what was before."""
        bot, has = self._house.namespaces.bot, Standing(event["content"], None)
        was = Standing(_told_before(event) or {}, None)
        return any(has.may(bot, kind) and not was.may(bot, kind) for kind in _OURS)

    async def _set_ranks(self, item: Item) -> None:
        if self._portal.follow is not Follow.ALL:
            return
        before = await self._content_before(item.event)
        if before is None:
            return
        for user, rank in changed_ranks(before, item.event["content"]).items():
            person = self._person(user)
            if person is not None:
                await self._do(
                    item, f"change of {user}'s rank",
                    lambda client, p=person, r=rank: client.set_rank(self._chat, p, r),  # type: ignore[misc]
                    to_ghost=self._house.namespaces.parse_ghost(user) is not None,
                )  # fmt: skip

    def _person(self, user: str) -> RemoteUserId | UserId | None:
        """Who it is on the network; None for those who are not there."""
        ghost = self._house.namespaces.parse_ghost(user)
        if ghost is not None:
            return RemoteUserId(ghost[1]) if ghost[0] == self._portal.instance else None
        instance = self._house.instances.get(self._portal.instance)
        session = instance.find_session(UserId(user)) if instance is not None else None
        is_there = session is not None and session.supervisor.connected.is_set()
        return UserId(user) if is_there else None

    async def _content_before(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """What stood there before; None if that is not known, and so nothing is a change.

        The homeserver leaves it out when it repeats itself; then it says what was replaced.
        """
        before = _told_before(event)
        if before is not None:
            return before
        replaced = (event.get("unsigned") or {}).get("replaces_state")
        if not isinstance(replaced, str):
            return None
        try:
            found = await self._house.intents.event(self._portal.room, replaced)
        except MatrixError as error:
            heed_token(error)
            return None
        content = (found or {}).get("content")
        return content if isinstance(content, dict) else None

    async def _was_banned(self, event: dict[str, Any]) -> bool:
        before = await self._content_before(event)
        return before is not None and before.get("membership") == "ban"

    async def _do(self, item: Item, what: str, act: Act, *, to_ghost: bool = False) -> None:
        """Do it by whoever may; tell the room if nobody may.

        ``to_ghost``: to a person of the network, who is known there by a name alone.
        """
        house, portal = self._house, self._portal
        instance = house.instances.get(portal.instance)
        if instance is None or instance.relay is None:
            return
        sender = UserId(item.event["sender"])
        failure: PermanentFailure | None = None
        try:
            self.check(sender)
            if to_ghost:
                self._refuse_late(item)
        except PermanentFailure as error:
            failure = error
        else:
            failure = await self._try(instance, sender, act, at_once=to_ghost)
        if failure is None:
            return
        await tell(
            house, portal, item, f"refused {what}",
            f"{portal.chat_name} on {portal.instance} did not take the {what}: "
            f"{str(failure).rstrip('.')}.",
        )  # fmt: skip

    @staticmethod
    async def _try(
        instance: Instance, sender: UserId, act: Act, *, at_once: bool
    ) -> PermanentFailure | None:
        """Do it by the own connection, then by the relay; why it cannot be, if none may.

        ``at_once``: not by a connection that has to be waited for, and may come late.
        """
        own, relay = instance.find_session(sender), instance.relay
        is_there = own is not None and own.supervisor.connected.is_set()
        failure: PermanentFailure | None = None
        for session in (own if is_there else None, relay):
            if session is None or not isinstance(session.client, ManagesChats):
                continue
            # What the sender was refused is not asked again each time the relay is tried.
            if at_once and not session.supervisor.connected.is_set():
                if failure is not None:
                    return failure
                raise TemporaryFailure(f"{instance.name} is not connected")
            try:
                await act(session.client)
            except TemporaryFailure:
                if session is relay and failure is None:
                    raise
            except PermanentFailure as error:
                failure = error
            else:
                return None
        return failure

    def _refuse_late(self, item: Item) -> None:
        refuse_late(item.event, self._house.clock.now(), item.age)


def _told_before(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the event itself says that stood there before."""
    before = (event.get("unsigned") or {}).get("prev_content")
    return before if isinstance(before, dict) else None


def refuse_late(event: Mapping[str, Any], now: datetime, age: float = 0.0) -> None:
    """Raise ``PermanentFailure`` if it is too late to do to a person of the network what was done
    in the room: it came ``age`` seconds ago."""
    # So by the time that it bears, too, as far as the clock of the sender's homeserver can be
    # trusted: it may have come late, be read afterwards, or be tried again by hand.
    stamp, since = event.get("origin_server_ts"), 0.0
    if isinstance(stamp, int):
        since = now.timestamp() - stamp / 1000
    if age > LATE_SECONDS or since > LATE_SECONDS + CLOCKS_SECONDS:
        raise PermanentFailure(
            "it could not be done at once, and by now somebody else may go by that name; "
            "do it again if it is still to be done"
        )


def changed_ranks(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Rank]:
    """Whose rank is another by a change of the room's power levels, and which."""
    old, new = _levels(before), _levels(after)
    found = {}
    for user in sorted({*old[0], *new[0]}):
        was = rank_of(old[0].get(user, old[1]))
        now = rank_of(new[0].get(user, new[1]))
        if was is not now:
            found[user] = now
    return found


def rank_of(power: int) -> Rank:
    """The rank that a power in a room stands for."""
    ranks = (Rank.MODERATOR, Rank.HELPER, Rank.VOICED)
    return next((rank for rank in ranks if power >= POWERS[rank]), Rank.NONE)


def _levels(content: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    users, default = content.get("users"), content.get("users_default")
    users = users if isinstance(users, dict) else {}
    return (
        {str(user): level for user, level in users.items() if isinstance(level, int)},
        default if isinstance(default, int) else 0,
    )
