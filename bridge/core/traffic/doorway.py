"""One portal at work: messages from its Matrix room to the remote chat, and back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic

from bridge.core.host.announcing import terms
from bridge.core.host.instances import Instance
from bridge.core.lanes.lane import Item
from bridge.core.lanes.late import find_cut
from bridge.core.lanes.progress import Row
from bridge.core.logins.ownlogins import whose
from bridge.core.rooms.audience import audience_of
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.house import House
from bridge.core.traffic.acts import act, level_of
from bridge.core.traffic.arrivals import Arrivals
from bridge.core.traffic.comings import Comings
from bridge.core.traffic.cuts import tell_of_cut
from bridge.core.traffic.departures import Crossing, Departures, Said
from bridge.core.traffic.discretion import may_show
from bridge.core.traffic.relaying import as_relayed
from bridge.core.traffic.roomacts import KINDS, RoomActs
from bridge.core.traffic.stops import Stops
from bridge.core.traffic.telling import UNSPOKEN, Refusals, TurnedAway, tell
from bridge.core.traffic.voices import Voices, Waited
from bridge.model import (
    MessageLink,
    ParkReason,
    Permission,
    Portal,
    Puppets,
    Uncertain,
)
from bridge.sdk.capabilities import Capabilities, Level
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    PermanentFailure,
    TemporaryFailure,
    TooLong,
    Unsupported,
)
from bridge.sdk.events import (
    Message,
    Receipt,
    RemoteAccess,
    RemoteChat,
    RemoteEvent,
    RemoteMessage,
    RemoteRanks,
    RemoteRemoval,
    RemoteShutOut,
    RemoteTopic,
    Removal,
    Typing,
)
from bridge.sdk.events import Sender as Person
from bridge.sdk.ids import RemoteMessageId, RoomId, UserId
from bridge.sdk.login import LoginKind
from bridge.sdk.module import Client, SendsTyping

log = logging.getLogger(__name__)

_TELL_EACH = 3
"""Refusals in a minute of which a sender is told."""


class Doorway:
    """One portal at work: the consumer of its lane, and the entry for what comes back."""

    def __init__(self, portal: Portal, house: House) -> None:
        self.facts = ChatFacts(portal, house)
        self.acts = RoomActs(portal, house, self.facts)
        self.voices = Voices(self.facts, house)
        self.comings = Comings(self.facts, self.voices, house)
        self.name = f"portal:{portal.id}"
        self.deadline = house.deadline
        self.arrivals = Arrivals(self.facts, house)
        self.departures = Departures(portal, house)
        self.audience = audience_of(portal, house)
        self.on_tombstone: Callable[[Item], Awaitable[None]]
        """Called when the room was replaced."""
        self.put_out: set[UserId] = set()
        """Whose own connection was put out of the chat."""
        self.waits_because = ""
        """Why its messages wait; empty if they do not."""
        self.ends_in: RoomId | None = None
        """The room in which it is about to end, since that is encrypted."""
        self._house = house
        self._last_sent: Row | None = None
        self._told_waiting = False
        self.stops = Stops(house.router, self.name)
        self._refusals = Refusals()
        self.turned_away = TurnedAway(house)

    @property
    def portal(self) -> Portal:
        """What is stored of it."""
        return self.facts.portal

    @portal.setter
    def portal(self, portal: Portal) -> None:
        self.facts.portal = portal

    def become(self, portal: Portal) -> None:
        """Be the portal of another room, or of another chat."""
        is_moved = portal.room != self.portal.room
        self.portal, house = portal, self._house
        if is_moved:
            self.facts.moved()
            self.arrivals.attendance.moved()
        self.departures = Departures(portal, house)
        self.audience = audience_of(portal, house)

    @property
    def chat(self) -> RemoteChat:
        """The remote chat."""
        return RemoteChat(id=self.portal.chat, name=self.portal.chat_name)

    @property
    def is_shut(self) -> bool:
        """Whether nothing crosses: those in the room have put our bot out, until it is back; or
        the bridge is about to end there."""
        portal, house = self.facts.portal, self._house
        is_out = house.intents.evictions.is_out(portal.room, house.namespaces.bot)
        return (is_out or self.ends_in == portal.room) and portal.receiver is None

    # --- Matrix to the network ---

    @property
    def holds(self) -> bool:
        """Whether what may have been sent is put aside rather than sent again."""
        return self.portal.uncertain is Uncertain.HOLD

    async def handle(self, item: Item) -> None:
        """Bring one Matrix event to the network. Raises a ``DeliveryError``."""
        self.stops.begun = None
        sender, portal = UserId(item.event["sender"]), self.facts.portal
        left_alone = self._is_left_alone(sender)
        if item.event["type"] == "m.room.member":
            item.drop()
            await self.comings.follow(item.event)
            if not (self.portal.paused or self.is_shut or left_alone):
                await self.acts.remove(item)
        elif self.is_shut:
            item.drop()
            self.stops.pass_by(item)
        elif item.event["type"] == "m.room.tombstone":
            await self.on_tombstone(item)
        elif self.stops.cover(item) and item.event["type"] not in KINDS:
            await self._let_stop(item)
        elif portal.paused or left_alone or self._is_left_out(item):
            item.drop()
            await self.acts.overhear(item.event)
        elif item.event["type"] in KINDS:
            await self.acts.handle(item)
        elif portal.receiver is None and (why := self.voices.why_unheard(sender)):
            await self.turned_away.tell(portal, item, why)
            self._drop(item)
        else:
            self.stops.begun = item
            try:
                await self._bring(item)
            except Waited:
                raise
            except TemporaryFailure as error:
                self.waits_because = str(error)
                await self._tell_that_it_waits(item, error)
                raise
            else:
                self.stops.begun = None

    def _is_left_alone(self, person: UserId) -> bool:
        """Whether nothing of somebody crosses: as they wish, or as the room's policy lists say."""
        house, portal = self._house, self.facts.portal.id
        if portal in house.policies.waiting:
            raise TemporaryFailure("this room's policy lists are being read", retry_after=1)
        return house.optouts.cover(person, portal) or house.policies.cover(portal, person)

    async def _bring(self, item: Item) -> None:
        house = self._house
        if await self._leave_out(item):
            item.drop()
            return
        capabilities = self._instance.connector.capabilities(self.facts.portal.chat)
        said = await self.departures.read(item.event, capabilities, item.stored)
        await item.stored()
        if said is None:
            self._drop(item)
            return
        if item.again and self.holds:
            raise DeliveryUncertain("it may have been sent before an interruption")
        session, said = await self.voices.choose(
            self._instance, said, puppets=capabilities.puppets
        )
        if said.relayed:
            name_format = self.portal.relay_name or house.rules(self.portal.instance).relay_name
            said = as_relayed(
                said, item.event["content"], name_format, read=self.departures.read_body,
                avatar=await self.departures.picture(item.event) if capabilities.avatars else None,
            )  # fmt: skip
        if self._last_sent is not None and not capabilities.acknowledges:
            await house.marker.settle(self._last_sent)
        if item.again:
            await tell(
                house, self.portal, item, "again", "After an interruption your message was sent "
                f"to {self.portal.instance} once more; it may be there twice.",
            )  # fmt: skip
        if self.stops.cover(item):  # Since it was begun.
            self._drop(item)
            return
        began = house.clock.now()
        self.stops.saying = (said, session.client)
        try:
            receipt, words = await self._say(session.client, item, said, capabilities)
        finally:
            self.stops.saying = None
        if receipt is None:
            self._drop(item)
            return
        item.delivered()
        self.waits_because, self._told_waiting = "", False
        self._last_sent = item.row
        self._note_sent(item, receipt, began, self.departures.links_of(
            item.event, said, words=words
        ))  # fmt: skip

    async def _let_stop(self, item: Item) -> None:
        """Leave out what was stopped; at the end of it say so."""
        self._drop(item)
        if self.stops.end_with(item):
            await tell(
                self._house, self.portal, item, "stopped",
                f"Stopped: the rest is not sent to {self.portal.chat_name}.",
            )  # fmt: skip
            self.stops.forget(item)

    def _drop(self, item: Item) -> None:
        item.drop()
        self._house.telemetry.count_send("to_network", "dropped")

    async def _say(
        self, client: Client, item: Item, said: Said, capabilities: Capabilities
    ) -> tuple[Receipt | None, bool]:
        """Say it by the network's own means, else in words; and whether it was in words.

        No receipt if it is left out.
        """
        if isinstance(said, Message):
            return await self._send(client, said, item), False
        level = level_of(said, capabilities)
        if level > Level.FALLBACK:
            self.voices.check(said.sender.user_id)
            try:
                return await act(client, said), False
            except Unsupported:
                if level is Level.FULL:
                    raise
        words = await self.departures.in_words(item.event, said)
        return (None if words is None else await self._send(client, words, item)), True

    async def _send(self, client: Client, message: Message, item: Item) -> Receipt:
        self.voices.check(message.sender.user_id)
        try:
            return await client.send(message)
        except TooLong:
            if not self._house.media_links.can_link:
                raise
        shortened = await self.departures.shortened(message, item.event)
        self.voices.check(message.sender.user_id)
        return await client.send(shortened)

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Tell the sender in the room that the message did not get across, and why."""
        self.stops.pass_by(item)
        telemetry = self._house.telemetry
        outcome = "uncertain" if reason is ParkReason.UNCERTAIN else "parked"
        telemetry.count_send("to_network", outcome)
        if item.event["type"] == "m.room.member":
            return
        if reason is ParkReason.UNCERTAIN:
            why, way = "uncertain", "may not have reached"
            others = 0
        else:
            why, way = "parked", "did not reach"
            others = self._refusals.count(item, reason)
        if others > _TELL_EACH:
            return
        more = " More of yours are refused now; you are not told of each." * (others == _TELL_EACH)
        what = UNSPOKEN.get(item.event["type"], "message")
        await tell(
            self._house, self.portal, item, why,
            f"Your {what} {way} {self.portal.chat_name} on {self.portal.instance}: "
            f"{detail.rstrip('.')}.{more}",
        )  # fmt: skip

    @property
    def _instance(self) -> Instance:
        name = self.facts.portal.instance
        instance = self._house.instances.get(name)
        if instance is None:
            raise PermanentFailure(f"{name} is not switched on in the settings")
        return instance

    @property
    def terms(self) -> str:
        """What goes where, and how to say no: for those in the room."""
        puppets = whose(self._instance, self.voices.puppets, self.portal.chat)
        return terms(self.portal, puppets, self._house.announcer.read_more)

    def _note_sent(
        self, item: Item, receipt: Receipt, began: datetime, crossed: Sequence[Crossing]
    ) -> None:
        house, event = self._house, item.event
        house.telemetry.count_send("to_network", "sent")
        seconds = monotonic() - item.row.landed_at
        house.telemetry.time_crossing("to_network", seconds)
        now = house.clock.now()
        ids: Sequence[RemoteMessageId | None] = receipt.remote_ids or (None,)
        house.crossings.note([
            MessageLink(
                portal=self.facts.portal.id, event_id=event_id, remote_id=remote_id,
                part=part, sender=UserId(event["sender"]), room=RoomId(event["room_id"]),
                kind=kind,
                received_at=now - timedelta(seconds=seconds),
                laned_at=now - timedelta(seconds=monotonic() - item.laned_at),
                sent_at=receipt.sent_at or began, confirmed_at=now,
            )
            for event_id, kind in crossed
            for part, remote_id in enumerate(ids)
        ])  # fmt: skip

    async def show_typing(self, user: UserId, is_typing: bool) -> None:
        """Show on the network that somebody in the room is writing, by that person's own login.

        One that is there and connected: nobody gets a connection by writing what is not sent yet.
        """
        house = self._house
        instance = house.instances.get(self.portal.instance)
        session = instance.find_session(user) if instance else None
        if instance is None or session is None or not isinstance(session.client, SendsTyping):
            return
        may = house.permissions.allows(user, Permission.USER, instance.name)
        is_out = (
            house.optouts.cover(user, self.facts.portal.id)
            or house.policies.cover(self.facts.portal.id, user)
            or house.blocks.cover(instance.name, self.portal.chat, user)
            or self.portal.receiver not in {None, session.row.id}
        )
        if self.portal.paused or self.is_shut or is_out or not may:
            return
        level = instance.connector.capabilities(self.portal.chat).typing
        if level > Level.FALLBACK and session.supervisor.connected.is_set():
            name = house.intents.cached_name(user, self.portal.room)
            await session.client.send_typing(Typing(
                chat=self.portal.chat, sender=Person(user_id=user, name=name),
                is_typing=is_typing,
            ))  # fmt: skip

    # --- what waits for long ---

    async def _tell_that_it_waits(self, item: Item, error: TemporaryFailure) -> None:
        """Say so in the room, once per outage, to those who may think that they were heard."""
        age = monotonic() - item.row.landed_at
        if self._told_waiting or self.voices.are_over or age < self._house.tell_after:
            return
        try:
            await tell(
                self._house, self.portal, item, "waits",
                f"Messages to {self.portal.chat_name} on {self.portal.instance} wait: "
                f"{str(error).rstrip('.')}. They are sent when it is back.",
            )  # fmt: skip
        except DeliveryError as failure:
            log.info("a room is told later: %s", failure, extra={"event": "told_later"})
        else:
            self._told_waiting = True

    def _is_left_out(self, item: Item) -> bool:
        left_out = self.facts.portal.left_out
        # Not by the day: a clock may go back, the numbers never do.
        return left_out is not None and item.id[1:] <= left_out[1:]

    async def _leave_out(self, item: Item) -> bool:
        """Leave out the oldest of very many late messages, once the network is back.

        Both sides are told before it is decided for good: a crash keeps nobody from knowing.
        """
        house = self._house
        is_early = monotonic() - item.row.landed_at < house.lateness.after
        if is_early or self.portal.receiver is not None:
            return False
        relay = self._instance.relay
        if relay is None or not relay.supervisor.connected.is_set():
            return False
        cut = find_cut(item.lane.places(), monotonic(), house.lateness)
        if cut is None:
            return False
        await tell_of_cut(house, self.portal, item, cut, relay)
        await house.store.set_left_out(self.portal.id, cut.last)
        self.portal = replace(self.portal, left_out=cut.last)
        log.warning(
            "%d late messages are left out", cut.number,
            extra={"event": "late_left_out", "instance": self.portal.instance},
        )  # fmt: skip
        return True

    async def let_go(self, person: UserId, reason: str = "does not want to be bridged") -> None:
        """Have the person's own connection, if there is one, out of the chat, and speak for
        nobody there. Raises ``TemporaryFailure`` when the database is away."""
        if self.portal.receiver is not None:
            return
        lent = await self.voices.end_loan(person, f"its owner {reason}")
        instance = self._house.instances.get(self.portal.instance)
        session = instance.find_session(person) if instance else None
        for one in filter(None, {session, lent}):
            await one.leave(self.chat, reason)

    async def dismiss_puppets(self) -> None:
        """Have the connections out of the chat that are not to speak there."""
        if self.portal.receiver is not None:
            return
        instance, mode = self._house.instances.get(self.portal.instance), self.voices.puppets
        unwanted = {
            Puppets.AUTOMATIC: set(),
            Puppets.LOGIN: {LoginKind.AUTOMATIC},
            Puppets.RELAY: {LoginKind.AUTOMATIC, LoginKind.PERSON},
        }[mode]
        async with asyncio.TaskGroup() as group:
            for session in instance.sessions if instance else ():
                if session.row.kind in unwanted and session.row.id != self.portal.relay:
                    group.create_task(session.leave(self.chat, "a relay speaks here now"))

    # --- the network to Matrix ---

    async def receive(self, event: RemoteEvent) -> None:
        """Bring one event of the network into the room; returns when it is in the outbox.

        Raises ``PermanentFailure`` for what is said to one alone and the room must not have.
        """
        if isinstance(event, RemoteRemoval):
            is_back = event.how is Removal.UNBAN
            (self.put_out.discard if is_back else self.put_out.add)(event.user)
        is_shut, portal = self.is_shut, self.facts.portal
        is_paused = portal.paused and not isinstance(event, RemoteShutOut)
        if is_shut and isinstance(event, RemoteShutOut):
            await self.arrivals.note_shut_out(event)
            is_shut = self.is_shut
        if is_paused or is_shut:
            self._house.telemetry.count_send("to_matrix", "dropped")
            self.facts.overhear(event)
            return
        if isinstance(event, RemoteTopic | RemoteAccess | RemoteRanks | RemoteRemoval):
            await self.facts.receive(event)
            return
        if not await may_show(event, self.facts.portal, self.audience, self._house):
            return
        await self.arrivals.receive(event)
        if isinstance(event, RemoteMessage):
            self.departures.note_last(event.id)
