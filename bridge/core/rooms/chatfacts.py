"""What a chat is on its network, brought into its room: topic, who may come, who runs it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from bridge.core.outbox.outgoing import once
from bridge.core.rooms.chattopic import ChatTopic
from bridge.core.rooms.house import House
from bridge.core.rooms.ranks import POWERS
from bridge.core.rooms.removals import Removals
from bridge.core.rooms.shownroom import ShownRoom
from bridge.matrix.client import HomeserverAway, MatrixError, heed_token
from bridge.matrix.standing import level_of
from bridge.model import Follow, Outgoing, Portal, Puppets, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import (
    Rank,
    RemoteAccess,
    RemoteEvent,
    RemoteRanks,
    RemoteRemoval,
    RemoteTopic,
)
from bridge.sdk.ids import RemoteUserId, UserId

log = logging.getLogger(__name__)


class ChatFacts(ShownRoom):
    """One portal's. What is written into the room goes by the outbox, as messages do.

    What is asked of the homeserver before holds nothing up: where it does not answer, what the
    chat is is known, and brought into the room when it does (``core.rooms.catchingup``).
    """

    def __init__(self, portal: Portal, house: House) -> None:
        super().__init__(portal, house)
        self.choosing = asyncio.Lock()
        """Held while what the room's people chose is stored, and then known."""
        self.pausing = asyncio.Lock()
        """The same of whether anything crosses."""
        self.topic = ChatTopic(self, house)
        self._ranks: dict[RemoteUserId, Rank] = {}
        self._own: dict[UserId, Rank] = {}
        """What people in Matrix may do in the chat, by their connections."""
        self._are_ranks_told = False
        """The network has told what everybody may do there: who is not among them, nothing."""
        self._given: set[UserId] = set()
        """Those of them whom we let speak in the room, for their rank."""
        self._has_found_given = False
        """Those to whom an earlier process gave it are among them."""
        self._let: set[UserId] = set()
        """Ghosts and bots that we let speak without one."""
        self._limit_put: tuple[Outgoing, bool] | None = None
        """What we put last of whether only some may speak, which may be on its way."""
        self._limiting = asyncio.Lock()
        self._is_limiting = False
        """That was begun, and it is not done, or failed."""
        self._removals = Removals(house, self._may)
        self._is_left = False
        """The room is the chat's no longer."""
        self._is_behind = False
        """The room may lack something of what is known."""
        self._is_access_missed = False
        self._has_news = False
        """Something was noted since."""
        self._listed_for: RemoteAccess | None = None
        """What the chat was when the list was seen to last."""
        self._rule_put: tuple[Outgoing, str] | None = None
        """The join rule that we put last, which may be on its way to the room."""
        self.is_ended = False
        """Whether those who run the chat have ended its bridge, which is not untied yet."""
        self.beside: Callable[[], Sequence[ChatFacts]] = lambda: ()
        """The same of the room's other chats."""

    async def apply(self) -> None:
        """Bring into the room what is known, after it was decided to follow the chat."""
        chat, self._is_behind = self.portal.chat, False
        ranks, own = dict(self._ranks), dict(self._own)
        try:
            is_all = self._are_ranks_told
            await self._take(RemoteRanks(chat=chat, ranks=ranks, own=own, is_all=is_all))
            if self._access is not None:
                await self._take(self._access)
            for removal in self._removals.undone():
                await self._take(removal)
            await self.show()
        except BaseException:
            self._is_behind = True
            raise

    def note_behind(self) -> None:
        """Know that the room may lack what our bot might not put there before."""
        self._is_behind = True

    async def review(self) -> None:
        """Bring into the room what was missed, and have those speak there who may.

        Called after it was decided otherwise what crosses, or whom it is about. What cannot be
        done now is done when the homeserver answers, or with the chat's next change.
        """
        if self._is_list_missed:
            self._house.catching_up.want(self)
        try:
            await self._make_good()
        except TemporaryFailure as error:
            _tell_behind(error)
            if isinstance(error, HomeserverAway):
                self._await_homeserver()

    async def review_soon(self) -> None:
        """As :meth:`review`, but wait for no homeserver that is being waited for already."""
        if self._awaits_homeserver:
            self._has_news = True
        else:
            await self.review()

    async def catch_up(self) -> None:
        """Bring into the room what was noted while the homeserver did not answer.

        Raises ``TemporaryFailure`` while it does not, or the database is away.
        """
        while self._awaits_homeserver:
            self._has_news = False
            await self._make_good()
            self._awaits_homeserver = self._has_news  # Noted meanwhile.
        if not self._is_shut:
            await super().catch_up()

    @property
    def _is_shut(self) -> bool:
        """Whether nothing is to be done in the room just now."""
        return self.portal.paused or self.is_bot_out or self._is_left

    async def _make_good(self) -> None:
        portal, is_shut = self.portal, self._is_shut
        if is_shut or portal.follow is not Follow.ALL:
            self._removals.let_kicks_go()
        if not is_shut:
            with _leaving_refused():
                await self.topic.make_good()
            is_behind = self._is_behind or any(True for _ in self._removals.undone())
            if is_behind and portal.follow is Follow.ALL:
                await self.apply()
            elif self._is_access_missed and self._access is not None:
                await self._take(self._access)
        with _leaving_refused():
            await self._limit()

    def _await_homeserver(self) -> None:
        self._awaits_homeserver = True
        self._house.catching_up.want(self)

    def overhear(self, event: RemoteEvent) -> None:
        """Know what the chat is by now, though the room does not follow it just now."""
        if isinstance(event, RemoteAccess):
            self._access, self._is_behind = event, True
        elif isinstance(event, RemoteRanks):
            self._learn_ranks(event)
            self._is_behind = True
        elif isinstance(event, RemoteRemoval):
            self._removals.note(event)
        elif isinstance(event, RemoteTopic) and self.topic.is_missed:
            self.topic.miss(event)  # What was missed is no longer the newest.

    def moved(self) -> None:
        """The room is another: what the chat is may be missing there.

        Bring it there with :meth:`review`.
        """
        self._is_behind = True
        self._is_limiting = self.portal.quieted

    async def receive(self, event: RemoteEvent) -> None:
        """Take one fact; the homeserver's silence holds up nobody.

        Raises ``TemporaryFailure`` when the database is away.
        """
        if not self._awaits_homeserver:
            try:
                await self._take(event)
            except HomeserverAway as error:
                _tell_behind(error)
                self._await_homeserver()
            else:
                return
        self._has_news = True
        match event:
            case RemoteTopic():
                self.topic.miss(event)
            case RemoteRemoval():
                self._removals.miss(self.portal, event)
            case _:
                self.overhear(event)
                self._is_access_missed |= isinstance(event, RemoteAccess)

    async def _take(self, event: RemoteEvent) -> None:
        """Raises ``HomeserverAway``, and ``TemporaryFailure`` when the database is away."""
        with _leaving_refused():
            match event:
                case RemoteTopic():
                    await self.topic.follow(event)
                case RemoteAccess():
                    await self._set_access(event)
                case RemoteRanks():
                    await self._set_powers(event)
                case RemoteRemoval():
                    await self._removals.follow(self.portal, event)

    async def _set_access(self, event: RemoteAccess) -> None:
        self._access = event
        if event != self._listed_for or self._is_shown is None:
            await self.show()
            self._listed_for = event
        follows, is_own = self.portal.follow is Follow.ALL, self.is_own_room
        if follows and is_own and self.portal.listed != event.listed:
            await self.ask(self._house.intents.set_listed(self.portal.room, event.listed))
        portal, closed = self.portal, self.portal.closed
        # One that we closed though the chat is not known to be closed was left halfway.
        is_halfway = closed and portal.open is not False
        if follows and (event.open == closed or is_halfway):
            closed = await self._set_join_rule(event)
        await self._note_access(listed=event.listed, is_open=event.open, closed=closed)
        if self._access is event:
            self._is_access_missed = False
        await self._limit()

    # --- who may speak ---

    async def let_speak(self, user: UserId) -> None:
        """Have a ghost speak whom its network has heard, though only some may.

        Services, say, are heard in a moderated chat without a rank there; other networks know
        nothing of it.
        """
        # It is asked with each message: first what needs no look at the id.
        if not self.portal.quieted or self._is_left or user in self._let:
            return
        ghost = self._house.namespaces.parse_ghost(user)
        here = self.portal.instance
        if ghost is not None and ghost[0] == here and RemoteUserId(ghost[1]) in self._ranks:
            return
        await self._house.sender.put([self.powers({}, voices={user: True})])
        self._let.add(user)

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[list[Outgoing]]:
        """Held while the room is untied: gives what has everybody speak there again.

        Nothing limits it meanwhile, nor after that, unless the block fails.
        """
        async with self._limiting:
            # Should it fail, the room is as it was with the chat's next change.
            self._is_limiting, self._is_left = self.portal.quieted, True
            try:
                yield self._let_all_speak()
            except BaseException:
                self._is_left = False
                raise

    def _let_all_speak(self) -> list[Outgoing]:
        if not self.portal.quieted or self._hand_over():
            return []
        return [self.powers({}, voices=dict.fromkeys(self._let, False), is_limited=False)]

    async def _limit(self) -> None:
        """Have only those speak in the room who are heard in the chat, while it is moderated.

        A room that people limited stays so; one that they opened, too, until the next time.
        """
        async with self._limiting:
            await self._limit_alone()

    async def _limit_alone(self) -> None:
        portal, is_limited = self.portal, self._is_to_be_limited(self._access)
        if self._is_left or (is_limited is portal.quieted and not self._is_limiting):
            return
        # What is limited by us is known to be until we can lift it: later it would be people's.
        if self.is_bot_out or not await self.can("m.room.power_levels"):
            return
        is_new = is_limited and not portal.quieted and not self._quieting()
        if is_new and not await self._may_all_speak():
            return
        self._is_limiting = True
        if is_limited:
            # First: what was limited by us must not stay so, wherever we are cut off.
            await self._note_quieted(True)
            voices = await self._find_voices()
        else:
            voices = dict.fromkeys(self._let, False)
            if self._quieting():
                # First: two that end at once must not both leave it to the other.
                await self._note_quieted(False)
        if is_limited or not self._hand_over():
            entry = self.powers({}, voices=voices, is_limited=is_limited)
            await self._house.sender.put([entry])
            self._limit_put = entry, is_limited
        if not is_limited:
            self._let.clear()
            await self._note_quieted(False)
        self._is_limiting = False

    def _quieting(self) -> "Sequence[ChatFacts]":
        """The room's other chats for which not everybody may speak there."""
        return [one for one in self.beside() if one.portal.quieted and not one._is_left]

    def _hand_over(self) -> bool:
        """Whether the room stays limited for another chat, which lifts that when it is over."""
        others = self._quieting()
        for other in others:
            other._let |= self._let
        return bool(others)

    def _is_to_be_limited(self, event: RemoteAccess | None) -> bool:
        house, portal = self._house, self.portal
        if portal.follow is not Follow.ALL or portal.paused:
            return False
        if event is None or not event.moderated:
            return event is None and portal.quieted
        instance = house.instances.get(portal.instance)
        has_own = instance is None or instance.connector.capabilities(portal.chat).puppets
        puppets = portal.puppets or house.rules(portal.instance).puppets
        # Where the relay is heard, so are those for whom it speaks.
        speaks_for_some = not has_own or puppets is not Puppets.AUTOMATIC
        is_heard = event.relay_heard or portal.relay is not None
        return not (speaks_for_some and is_heard)

    async def _may_all_speak(self) -> bool:
        """Whether everybody may speak in the room when what we put is there."""
        room, put = self.portal.room, self._limit_put
        # Asked first, as of the join rule.
        is_coming = put is not None and put[0].room == room and self._house.sender.may_wait(put[0])
        levels = await self.ask(self._house.intents.state(room, "m.room.power_levels"))
        if levels is None or (level_of(levels.get("users_default")) or 0) > 0:
            return False
        is_free = level_of(levels.get("events_default", 0)) == 0
        return not put[1] if put is not None and is_coming else is_free

    async def _find_voices(self) -> dict[UserId, bool]:
        """Who may speak in the room beside ghosts: our people who are heard, and our bots."""
        house = self._house
        members = await self.ask(house.intents.joined_members(self.portal.room))
        is_bot, bot = house.namespaces.is_bot, house.namespaces.bot
        self._let |= {user for user in members if is_bot(user) and user != bot}
        self._given |= self._own.keys()
        return dict.fromkeys([*self._own, *self._let], True)

    async def _find_given(self) -> set[UserId]:
        """Those whom an earlier process let speak here for a rank that they no longer have."""
        asked = self._house.intents.state(self.portal.room, "m.room.power_levels")
        levels = await self.ask(asked) or {}
        users, is_ours = levels.get("users"), self._house.namespaces.is_ours
        there = users if isinstance(users, dict) else {}
        given = {
            UserId(user) for user, level in there.items()
            if level_of(level) == POWERS[Rank.VOICED] and not is_ours(user)
        }  # fmt: skip
        # Those who have it are given it once more: another chat's portal may just take it.
        return given - self._own.keys()

    async def _note_quieted(self, quieted: bool) -> None:
        if self.portal.quieted is not quieted:
            await self._house.store.set_quieted(self.portal.id, quieted)
            self.portal = replace(self.portal, quieted=quieted)

    # --- the rest ---

    async def _set_join_rule(self, event: RemoteAccess) -> bool:
        """Close a public room, or open one that was closed by us; whether it is closed by us."""
        rule, portal = await self._join_rule(), self.portal
        is_ours = rule == "public" or (portal.closed and rule == "invite")
        if not is_ours or not await self.can("m.room.join_rules"):
            # What people decided otherwise stays as it is.
            return False
        # First, so that it is done again if we are cut off before or after it is put.
        is_open = event.open or portal.open or None
        await self._note_access(listed=event.listed, is_open=is_open, closed=True)
        rule = "public" if event.open else "invite"
        self._rule_put = await self.put_state("m.room.join_rules", {"join_rule": rule}), rule
        return not event.open

    async def _join_rule(self) -> str:
        """What the room's rule will be when what we put is there. Empty if it has none."""
        room, put = self.portal.room, self._rule_put
        # Asked first: what arrives after that is in the answer, or is what we know.
        is_coming = put is not None and put[0].room == room and self._house.sender.may_wait(put[0])
        state = await self.ask(self._house.intents.state(room, "m.room.join_rules")) or {}
        return put[1] if put is not None and is_coming else str(state.get("join_rule") or "")

    async def _note_access(self, *, listed: bool, is_open: bool | None, closed: bool) -> None:
        portal = self.portal
        if (portal.listed, portal.open, portal.closed) == (listed, is_open, closed):
            return
        await self._house.store.set_access(
            portal.id, listed=listed, is_open=is_open, closed=closed
        )
        # What was chosen or became of the room meanwhile stays.
        self.portal = replace(self.portal, listed=listed, open=is_open, closed=closed)

    def _learn_ranks(self, event: RemoteRanks) -> None:
        self._are_ranks_told |= event.is_all
        ranks = event.ranks if event.is_all else {**self._ranks, **event.ranks}
        self._ranks = {who: rank for who, rank in ranks.items() if rank}
        own = event.own if event.is_all else {**self._own, **event.own}
        self._own = {who: rank for who, rank in own.items() if rank}

    async def _set_powers(self, event: RemoteRanks) -> None:
        house, portal = self._house, self.portal
        self._learn_ranks(event)
        if event.is_all and not self._has_found_given:
            if portal.quieted:
                self._given |= await self._find_given()
            self._has_found_given = True
        voices = dict.fromkeys(self._given - self._own.keys(), False)
        if portal.quieted:
            voices |= dict.fromkeys(self._own.keys() - self._given, True)
        if portal.follow is not Follow.ALL or not (event.ranks or event.is_all or voices):
            return
        if not await self.can("m.room.power_levels"):
            return
        ghost = house.namespaces.ghost
        users = {ghost(portal.instance, who): POWERS[rank] for who, rank in event.ranks.items()}
        await house.sender.put([self.powers(users, is_all=event.is_all, voices=voices)])
        self._given.symmetric_difference_update(voices)
        self._let -= users.keys()
        if event.is_all:
            parse = house.namespaces.parse_ghost
            self._let = {one for one in self._let
                         if (who := parse(one)) is None or who[0] != portal.instance}  # fmt: skip

    def powers(
        self, users: Mapping[UserId, int], *, is_all: bool = False,
        voices: Mapping[UserId, bool], is_limited: bool | None = None,
    ) -> Outgoing:  # fmt: skip
        """What gives people these levels in the room, and leaves all others as they are."""
        portal, speaking = self.portal, None
        if voices or is_limited is not None:
            level = POWERS[Rank.VOICED]
            speaking = {"level": level, "is_limited": is_limited, "voices": dict(voices)}
        return Outgoing(
            room=portal.room, user=self._house.namespaces.bot, kind=SendKind.POWERS,
            content={
                "users": dict(users), "all_of": portal.instance if is_all else "",
                "speaking": speaking,
            },
            transaction_id=once(), portal=portal.id,
        )  # fmt: skip

    @property
    def is_bot_out(self) -> bool:
        """Whether those in the room have put our bot out."""
        house = self._house
        return house.intents.evictions.is_out(self.portal.room, house.namespaces.bot)

    async def can(self, kind: str) -> bool:
        """Whether our bot may set a state of the room. Raises ``HomeserverAway``."""
        house = self._house
        return await self._may(house.intents.can(self.portal.room, house.namespaces.bot, kind))

    async def _may(self, question: Awaitable[bool]) -> bool:
        # Nothing is done any more in a room that was left meanwhile.
        return await self.ask(question) and not self._is_left

    async def put_state(self, kind: str, content: dict[str, Any]) -> Outgoing:
        """Have a state of the room so; what goes there. Raises ``TemporaryFailure``."""
        entry = Outgoing(
            room=self.portal.room, user=self._house.namespaces.bot, kind=SendKind.STATE,
            type=kind, content=content, transaction_id=once(), portal=self.portal.id,
        )  # fmt: skip
        await self._house.sender.put([entry])
        return entry


@contextmanager
def _leaving_refused() -> Iterator[None]:
    """Leave what the homeserver refuses as it is in the room."""
    try:
        yield
    except MatrixError as error:
        heed_token(error)
        _tell_behind(error)


def _tell_behind(error: Exception) -> None:
    log.warning("a room does not follow its chat: %s", error, extra={"event": "not_followed"})
