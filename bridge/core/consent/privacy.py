"""The privacy filter: nobody who is not seen in a chat reads in its room what is said there."""

import asyncio
import logging
from collections.abc import Set
from dataclasses import replace
from time import monotonic

from bridge.core.lanes.cancellation import outliving_module
from bridge.core.lanes.patience import asked_for
from bridge.core.lanes.unforeseen import Unforeseen
from bridge.core.logins.ownlogins import own_login
from bridge.core.outbox.outgoing import once
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.core.traffic.bothsides import say_here
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.model import Outgoing, Permission, Portal, Puppets, SendKind
from bridge.sdk.errors import PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.events import Sender
from bridge.sdk.ids import UserId
from bridge.sdk.module import JoinsChats, SeesPeople

log = logging.getLogger(__name__)

STATE_TYPE = "org.trestle.privacy"
"""State that says whether a bridge of the room holds back what its chat says."""
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 60.0
"""After which somebody who could not be brought in is tried again."""
_JOIN_SECONDS = 60.0
_AT_ONCE = 10
_NAMED = 5
_TOPIC = "m.room.topic"


class Privacy:
    """The filter of every portal for which it is switched on; asked at the moment at which
    something is put into a room."""

    def __init__(self, house: House, portals: Portals) -> None:
        self._house = house
        self._portals = portals
        self._unforeseen = Unforeseen("privacy")
        self._changing = asyncio.Lock()
        self._bringing: set[tuple[int, UserId]] = set()
        self._again_at: dict[tuple[int, UserId], float] = {}
        self._not_before: Recent[int, float] = Recent(1000)
        """By portal: until when the homeserver asked to be left alone with its room."""

    def is_on(self, portal: Portal) -> bool:
        """Whether it is switched on for a portal, by its room or by the settings."""
        if portal.receiver is not None:
            return False
        chosen = portal.privacy
        return self._house.rules(portal.instance).privacy if chosen is None else chosen

    async def may_go(self, outgoing: Outgoing) -> bool:
        """Whether what a chat said may be put into its room now. Raises ``TemporaryFailure``."""
        door = None if outgoing.portal is None else self._portals.numbered(outgoing.portal)
        if door is None or not _has_words(outgoing) or not self.is_on(door.portal):
            return True
        if not await self.look(door):
            return True
        if outgoing.type == _TOPIC:
            door.facts.topic.is_held = True
        return False

    async def look_again(self, outgoing: Outgoing) -> None:
        """Raise ``TemporaryFailure`` if others came to read while whoever says it came in: it is
        to be asked anew whether it may be put there."""
        if not await self.may_go(outgoing):
            raise TemporaryFailure("somebody came to read just now", retry_after=0)

    async def look(self, door: Doorway) -> frozenset[UserId]:
        """Who holds a portal back just now; its room is told when that begins, and when it ends.

        Raises ``TemporaryFailure`` when the homeserver or the database is away.
        """
        found = await self._hidden(door)
        if self._is_news(door, found):
            async with self._changing:
                found = await self._hidden(door)
                if self._is_news(door, found):
                    await self._change(door, found)
        return found

    def _is_news(self, door: Doorway, found: Set[UserId]) -> bool:
        # A broken connection is no news of anybody; yet nothing is let in by it.
        return self._seen(door) is not None and bool(found) != door.portal.blocked

    async def _hidden(self, door: Doorway) -> frozenset[UserId]:
        """Who reads and is not seen: while there is anybody, nothing may be said to them all."""
        try:
            readers = await door.audience.people()
        except PermanentFailure:
            # Whoever reads there, we do not see them.
            return frozenset({self._house.namespaces.bot})
        # Asked last: nothing is waited for between this and the sending.
        return frozenset(readers - (self._seen(door) or frozenset()))

    def _seen(self, door: Doorway) -> Set[UserId] | None:
        instance = self._house.instances.get(door.portal.instance)
        relay = instance.relay if instance is not None else None
        if relay is None or not isinstance(relay.client, SeesPeople):
            return None
        with outliving_module("say who is in a chat"):
            seen = relay.client.seen(door.portal.chat)
        return None if seen is None else frozenset(seen)

    async def _change(self, door: Doorway, found: frozenset[UserId]) -> None:
        house, portal = self._house, door.portal
        try:
            has_power = await house.intents.can(portal.room, house.namespaces.bot, STATE_TYPE)
        except MatrixError as error:
            raise TemporaryFailure(str(error), retry_after=5) from error
        await house.store.set_blocked(portal.id, bool(found))
        door.portal = replace(door.portal, blocked=bool(found))
        more = " and others" if len(found) > _NAMED else ""
        names = ", ".join(sorted(found)[:_NAMED]) + more
        text = (
            f"What is said in {portal.chat_name} on {portal.instance} does not come here while "
            f"not everybody here is seen there: {names}."
            if found
            else f"Everybody here is seen in {portal.chat_name} on {portal.instance}: what is "
            "said there comes here again."
        )
        said = [say_here(house, portal.room, text)]
        if has_power:
            said.append(Outgoing(
                room=portal.room, user=house.namespaces.bot, kind=SendKind.STATE,
                type=STATE_TYPE, state_key=f"org.trestle://{portal.instance}/{portal.chat}",
                content={"blocked": bool(found)}, transaction_id=once(),
            ))  # fmt: skip
        await house.sender.put(said)
        log.info("a room is held back: %s", bool(found), extra={"event": "privacy"})

    # --- having everybody seen ---

    async def run(self) -> None:
        """Look again and again, and bring in those who may come. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                for door in self._portals.all:
                    if monotonic() < self._unforeseen.rests_until(door.portal.id):
                        continue
                    with self._unforeseen.outlived(door.portal.id):
                        await self._see_to(group, door)

    async def _see_to(self, group: asyncio.TaskGroup, door: Doorway) -> None:
        if not self.is_on(door.portal):
            await self._end(door)
            return
        for person in await self._try_to_look(door):
            self._begin(group, door, person)

    async def _end(self, door: Doorway) -> None:
        """Let go a room that was held back before the filter was switched off."""
        try:
            if door.portal.blocked:
                await self._house.store.set_blocked(door.portal.id, False)
                door.portal = replace(door.portal, blocked=False)
            await door.facts.topic.put_held()
        except TemporaryFailure:
            return

    async def _try_to_look(self, door: Doorway) -> frozenset[UserId]:
        if monotonic() < (self._not_before.get(door.portal.id) or 0.0):
            return frozenset()
        try:
            found = await self.look(door)
            if not found:
                await door.facts.topic.put_held()
        except TrestleError as error:
            log.info("a room was not looked at: %s", error, extra={"event": "privacy_unknown"})
            self._not_before.put(door.portal.id, monotonic() + asked_for(error))
            return frozenset()
        self._not_before.drop(door.portal.id)
        return found

    def _begin(self, group: asyncio.TaskGroup, door: Doorway, person: UserId) -> None:
        key, now = (door.portal.id, person), monotonic()
        if len(self._bringing) >= _AT_ONCE or key in self._bringing:
            return
        if now < max(self._again_at.get(key, 0.0), self._unforeseen.rests_until(key)):
            return
        if len(self._again_at) > 10_000:
            self._again_at.clear()
        self._again_at[key] = now + _AGAIN_SECONDS
        self._bringing.add(key)
        group.create_task(self._bring(door, person), name="privacy")

    async def _bring(self, door: Doorway, person: UserId) -> None:
        """Bring a reader's own connection into the chat, if they have or get one by themselves."""
        key = (door.portal.id, person)
        try:
            with self._unforeseen.outlived(key):
                await self._try_to_join(door, person)
        finally:
            self._bringing.discard(key)

    async def _try_to_join(self, door: Doorway, person: UserId) -> None:
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                await self._join(door, person)
        except (TrestleError, TimeoutError) as error:
            log.info("a reader is not seen: %s", error, extra={"event": "not_brought_in"})

    async def _join(self, door: Doorway, person: UserId) -> None:
        house, portal = self._house, door.portal
        instance = house.instances.get(portal.instance)
        if instance is None or not instance.is_open or not self._may_be_there(door, person):
            return
        rules = replace(house.rules(portal.instance), puppets=door.voices.puppets)
        name = house.intents.cached_name(person, portal.room)
        sender = Sender(user_id=person, name=name)
        session = await own_login(instance, sender, portal.room, rules, house.announcer)
        # That took a while, if the person had to be told first.
        if isinstance(session.client, JoinsChats) and self._may_be_there(door, person):
            with outliving_module("join a chat"):
                await session.client.join(door.chat)

    def _may_be_there(self, door: Doorway, person: UserId) -> bool:
        house, portal = self._house, door.portal
        return (
            house.permissions.allows(person, Permission.USER, portal.instance)
            and not door.voices.are_over
            and not house.optouts.cover(person, portal.id)
            and not house.blocks.cover(portal.instance, portal.chat, person)
            and door.voices.puppets is not Puppets.RELAY
            # Whoever was put out of the chat comes back by speaking, or not at all.
            and person not in door.put_out
        )


def _has_words(outgoing: Outgoing) -> bool:
    """Whether it carries words of people of the chat: a reason is words, too."""
    if outgoing.kind is SendKind.STATE:
        return outgoing.type == _TOPIC
    return outgoing.kind is SendKind.EVENT or bool(outgoing.content.get("reason"))
