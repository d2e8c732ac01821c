"""Which people of a chat have their ghosts in its room."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace

from bridge.core.lanes.patience import promptly
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.haste import Haste
from bridge.core.rooms.house import House
from bridge.core.rooms.standing import may_come, membership
from bridge.matrix.client import HomeserverAway, MatrixError
from bridge.model import Members, Outgoing, SendKind
from bridge.sdk.events import (
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteRename,
    RemoteUser,
)
from bridge.sdk.ids import InstanceId, RemoteUserId, UserId

Movement = RemoteJoin | RemoteLeave | RemoteRename | RemoteMembers
_MOST_MISSED = 20_000
_KNOWN_AS = "is now known as {}"

log = logging.getLogger(__name__)


class _NotToBeSeenError(HomeserverAway):
    """Nobody outside a room is told who is in it."""


class Attendance:
    """One room's: everybody of the chat, those who have spoken, or nobody (``Members``).

    Who is in the room is asked once. Where the homeserver does not answer, nothing waits for it:
    room and chat are compared when it does (``core.rooms.catchingup``).
    """

    def __init__(self, facts: ChatFacts, house: House) -> None:
        self._facts = facts
        self._house = house
        self._present: set[UserId] | None = None
        self._there: dict[RemoteUserId, RemoteUser] = {}
        """Who is in the chat, as far as the network has told."""
        self._spoke: dict[RemoteUserId, None] = {}
        """Those who have spoken since we began, the last one last."""
        self._coming: dict[UserId, RemoteUser] = {}
        self._going: dict[UserId, str] = {}
        """By what names."""
        self._is_told = False
        """The network has told who all is in the chat."""
        self._is_unmatched = False
        """Who is in the room is to be compared with that, when the homeserver says who is."""
        self._brought: set[UserId] = set()
        """Those who are in the room by what was put while it was not known who is there."""
        self._missed: dict[UserId, RemoteLeave | RemoteRename] = {}
        """What became of others in the meantime."""
        self._leaving: dict[UserId, Outgoing] = {}
        """What has ghosts leave that was put in the meantime, and may be on its way."""
        self._haste = Haste()
        self.is_adapted = True
        """:meth:`adapt` was done for what is chosen now."""

    @property
    def instance(self) -> InstanceId:
        """The network of the chat."""
        return self._facts.portal.instance

    @property
    def mode(self) -> Members:
        """Whose ghosts are wanted in the room."""
        portal = self._facts.portal
        if portal.receiver is not None:
            return Members.SPEAKERS
        return portal.members or self._house.rules(portal.instance).members

    @property
    def waiting(self) -> int:
        """How many are yet to come or go."""
        return len(self._coming) + len(self._going)

    @property
    def going(self) -> Set[UserId]:
        """The ghosts that are yet to leave the room."""
        return frozenset(self._going)

    async def present(self) -> set[UserId]:
        """Our ghosts of this portal's instance that are in the room.

        Where our bot is out, none is known of. Raises ``HomeserverAway`` when the homeserver does
        not say.
        """
        try:
            return await self._learn()
        except _NotToBeSeenError:
            return self._brought

    async def _learn(self) -> set[UserId]:
        """The same; raises ``HomeserverAway`` also where our bot is out, and is not told."""
        if self._present is None:
            room, may_wait = self._facts.portal.room, self._house.sender.may_wait
            # Asked first: those whom something that waits has leave are in the answer yet.
            done = [entry for entry in self._leaving.values() if not may_wait(entry)]
            try:
                members = await self._house.intents.joined_members(room)
            except MatrixError as error:
                raise HomeserverAway(str(error), retry_after=5) from error
            if self._present is not None or self._facts.portal.room != room:
                return await self._learn()  # Known, or another room, meanwhile.
            if not members:
                raise _NotToBeSeenError("our bot is not in the room")
            parse_ghost = self._house.namespaces.parse_ghost
            gone = {ghost for ghost, entry in self._leaving.items() if entry not in done}
            self._present = self._brought | {
                user
                for user in members.keys() - gone
                if (ghost := parse_ghost(user)) and ghost[0] == self._facts.portal.instance
            }
            self._brought, self._leaving = set(), {}
        return self._present

    async def known(self) -> set[UserId]:
        """The same, as far as it is known soon: else those that what was put brings there."""
        if self._present is None and not self._is_unmatched:
            try:
                self._refuse_early()
                return await promptly(self._learn())
            except HomeserverAway as error:
                log.info("room and chat are compared later: %s", error,
                         extra={"event": "match_later"})  # fmt: skip
                self._match_later()
        return self._at_hand

    def _refuse_early(self) -> None:
        """Raise ``HomeserverAway`` while somebody may come in by what an earlier process put."""
        lane = self._house.sender.lane_of(self._facts.portal.room)
        if lane is not None and not lane.is_of_now:
            raise HomeserverAway("it has not taken all that was said before", retry_after=1)

    @property
    def _at_hand(self) -> set[UserId]:
        return self._brought if self._present is None else self._present

    def _match_later(self) -> None:
        self._is_unmatched = True
        self._house.catching_up.want(self)

    async def catch_up(self) -> None:
        """Have room and chat match, once the homeserver says who is in the room.

        Not while nothing crosses, or our bot is out: then it is done after :meth:`review`. Raises
        ``TemporaryFailure`` while the homeserver does not say, or the database is away.
        """
        is_shut = self._facts.portal.paused or self._facts.is_bot_out
        if self._is_unmatched and not is_shut:
            self._refuse_early()
            await self._learn()
            await self._match()
            self._is_unmatched = False

    def review(self) -> None:
        """Have room and chat match soon, if that waits: things cross again, or our bot is back."""
        if self._is_unmatched:
            self._house.catching_up.want(self)

    def moved(self) -> None:
        """The room is another: who is in there is to be asked."""
        self._present = None
        self._brought, self._missed, self._leaving = set(), {}, {}
        self.end()

    def note_brought(self, users: Set[UserId]) -> None:
        """What waits for the room brings users of ours in there."""
        parse_ghost = self._house.namespaces.parse_ghost
        self._at_hand.update(user for user in users if parse_ghost(user))

    def end(self) -> None:
        """Let none of those who wait come or go any more."""
        self._coming.clear()
        self._going.clear()

    def has(self, person: RemoteUserId) -> bool:
        """Whether somebody is in the chat, as far as the network has told."""
        return person in self._there

    def spelled(self, person: RemoteUserId) -> RemoteUser:
        """Somebody of the chat by the name that the network has told, if it has."""
        return self._there.get(person) or RemoteUser(id=person, name=person)

    def note_spoke(self, user: RemoteUser) -> None:
        """Somebody of the chat has spoken: the ghost is in the room by that, if there is one."""
        self._spoke.pop(user.id, None)
        self._spoke[user.id] = None
        ghost = self._ghost(user)
        self._coming.pop(ghost, None)
        self._keep(user)
        if self.mode is not Members.NONE:
            self._at_hand.add(ghost)
            self._missed.pop(ghost, None)

    async def let_in(
        self, person: RemoteUserId, enter: Callable[[RemoteUser], Awaitable[None]]
    ) -> None:
        """Have the ghost of somebody in the room by ``enter``, as one who has spoken; who leaves
        the chat meanwhile leaves the room after that."""
        user, was_there = self.spelled(person), self.has(person)
        await enter(user)
        self.note_spoke(user)
        if was_there and not self.has(person):
            await self.let_go(person)

    async def receive(self, event: Movement) -> None:
        """Follow who comes into the chat and who leaves it."""
        match event:
            case RemoteJoin():
                self._there[event.user.id] = event.user
                self._keep(event.user)
                await self._want([event.user])
            case RemoteLeave():
                self._forget(event.user)
                await self.known()
                if self._present is None:
                    self._miss(self._ghost(event.user), event)
                await self._move(leave=[event.user], reason=event.reason)
            case RemoteRename():
                await self._rename(event)
            case RemoteMembers():
                self._there = {user.id: user for user in event.users}
                self._spoke = {one: None for one in self._spoke if one in self._there}
                self._is_told = True
                await self.known()
                if self._present is not None:
                    await self._match()

    async def let_go(self, user: RemoteUserId) -> None:
        """Have the ghost of somebody who does not want to be there out of the room."""
        gone = RemoteUser(id=user, name=user)
        self._coming.pop(self._ghost(gone), None)
        if self._present is None:
            # Not asked here: it may be about many rooms, and somebody waits for an answer.
            told = RemoteLeave(chat=self._facts.portal.chat, user=gone)
            self._miss(self._ghost(gone), told)
            self._match_later()
        await self._move(leave=[gone], is_urgent=True)

    def let_go_soon(self, user: RemoteUserId) -> None:
        """Have it out as soon as the homeserver is there. After a restart it goes by what the
        network tells of who is in the chat."""
        ghost = self._ghost(RemoteUser(id=user, name=user))
        self._coming.pop(ghost, None)
        if self._present is None or ghost in self._present:
            self._going = {ghost: user} | self._going  # Before those who wait already.
            self._house.gathering.want(self)

    def gone(self, ghosts: Set[UserId]) -> set[UserId]:
        """Those of the ghosts who have left the chat, as far as the network has told."""
        return self._gone(ghosts, {} if self.mode is Members.NONE else self._wanted())

    def _gone(self, ghosts: Set[UserId], stay: Mapping[UserId, RemoteUser]) -> set[UserId]:
        return {*(ghosts if self._is_told else ghosts & self._missed.keys())} - stay.keys()

    async def empty(self) -> None:
        """Have all ghosts out of the room, for good.

        Raises ``TemporaryFailure`` when database or homeserver are away; it can be done again.
        """
        present = await self.present()
        gone = sorted(present)
        await self._house.sender.put([
            # Not as the portal's: they go though it is gone by then, or paused.
            replace(self._membership(ghost, "", SendKind.LEAVE), portal=None)
            for ghost in gone
        ])  # fmt: skip
        present.difference_update(gone)

    async def adapt(self) -> None:
        """Have those in the room who are wanted, after that was chosen anew."""
        present = await self.present()
        wanted = self._wanted()
        left = {one: name for one, name in self._going.items() if one not in wanted}
        self.end()
        mode = self.mode
        if mode is Members.FULL:
            self._going = left
            self._house.gathering.want(self)
            await self._want(self._there.values())
            self.is_adapted = True
            return
        stay = {self._ghost(RemoteUser(id=one, name=one)) for one in self._spoke}
        if mode is Members.NONE:
            stay = set()
        names = {self._ghost(user): user.name for user in self._there.values()}
        self._going = left | {ghost: names.get(ghost, "") for ghost in sorted(present - stay)}
        self.is_adapted = True
        self._house.gathering.want(self)

    async def admit(self, most: int) -> int:
        """Have some of those come or go who wait; how many. See ``core.rooms.gathering``."""
        present = await self.present()
        self._going = {one: name for one, name in self._going.items() if one in present}
        going = list(self._going.items())[:most]
        coming = list(self._coming.items())[: most - len(going)]
        if self.mode is not Members.FULL:
            coming = []
        come = [(ghost, user) for ghost, user in coming if self._may_come(user)]
        new = {ghost for ghost, _ in come} - present
        # Before it is stored: who leaves the chat meanwhile leaves the room after that, and who
        # comes back or speaks comes in again.
        present.update(new)
        present.difference_update(one for one, _ in going)
        try:
            await self._house.sender.put([
                *(self._membership(ghost, name, SendKind.LEAVE) for ghost, name in going),
                *(self._membership(ghost, user.name, SendKind.JOIN) for ghost, user in come),
            ])  # fmt: skip
        except BaseException:
            present.difference_update(new)
            present.update(one for one, _ in going)
            raise
        for ghost, _ in going:
            self._going.pop(ghost, None)
        for ghost, user in coming:
            # Whoever left and came again meanwhile waits anew.
            if self._coming.get(ghost) is user:
                del self._coming[ghost]
        return len(going) + len(coming)

    # --- inside ---

    def _ghost(self, user: RemoteUser) -> UserId:
        return self._house.namespaces.ghost(self._facts.portal.instance, user.id)

    def _may_come(self, user: RemoteUser) -> bool:
        return may_come(self._house, self._facts.portal, user)

    def _wanted(self) -> dict[UserId, RemoteUser]:
        """The ghosts of those who are in the chat."""
        return self._ghosts(self._there.values())

    def _ghosts(self, users: Iterable[RemoteUser]) -> dict[UserId, RemoteUser]:
        return {self._ghost(user): user for user in users if self._may_come(user)}

    def _miss(self, ghost: UserId, event: RemoteLeave | RemoteRename) -> None:
        # Of more it is known only from the list of who is there.
        if ghost in self._missed or len(self._missed) < _MOST_MISSED:
            self._missed[ghost] = event

    def _keep(self, *users: RemoteUser) -> None:
        """Have ghosts that wait to leave stay: their people are back."""
        if not self._going or self.mode is Members.NONE:  # Asked of every message.
            return
        is_full = self.mode is Members.FULL
        for user in users:
            if (is_full or user.id in self._spoke) and self._may_come(user):
                self._going.pop(self._ghost(user), None)

    def _forget(self, user: RemoteUser) -> None:
        self._there.pop(user.id, None)
        self._spoke.pop(user.id, None)
        self._coming.pop(self._ghost(user), None)

    async def _want(self, users: Iterable[RemoteUser]) -> None:
        """Have people in the room whom it shows though they have said nothing: soon."""
        if self.mode is not Members.FULL:
            return
        present = await self.known()
        if self._present is None:
            return  # Who is wanted is looked at when it is known who is there.
        self._expect(self._ghosts(users), present)

    def _expect(self, ghosts: Mapping[UserId, RemoteUser], present: Set[UserId]) -> None:
        new = [one for one in ghosts.items() if one[0] not in present]
        if len(new) > 1:
            recent = {one: number for number, one in enumerate(reversed(self._spoke))}
            new.sort(key=lambda one: recent.get(one[1].id, len(recent)))
        self._coming |= new
        if self._coming:
            self._house.gathering.want(self)

    async def _rename(self, event: RemoteRename) -> None:
        present, old = await self.known(), self._ghost(event.old)
        was_coming = old in self._coming
        if event.old.id in self._spoke:
            self._spoke[event.new.id] = None
        if event.old.id != event.new.id:
            self._forget(event.old)
        self._there[event.new.id] = event.new
        self._keep(event.new)
        arrive = [event.new] if old in present and old not in self._going else []
        if was_coming and not arrive:
            self._coming.pop(old, None)
            await self._want([event.new])
        if event.old.id != event.new.id:
            if self._present is None:
                self._miss(old, event)
            reason = _KNOWN_AS.format(event.new.name)
            await self._move(leave=[event.old], arrive=arrive, reason=reason)

    async def _match(self) -> None:
        """Have those out of the room who are not in the chat, and soon the others in."""
        present = await self.present()
        wanted = self._wanted()
        self._keep(*wanted.values())
        stay = {} if self.mode is Members.NONE else wanted
        self._coming = {one: user for one, user in self._coming.items() if one in wanted}
        gone = self._gone(present, stay)
        come = stay.keys() - present
        renamed = {
            self._ghost(user): user for ghost in gone
            if (user := self._successor(ghost)) and self._ghost(user) in come
        }  # fmt: skip
        if self._haste.take(len(gone) + len(renamed)):
            await self._house.sender.put([
                *(self._membership(ghost, "", SendKind.LEAVE, self._why(ghost))
                  for ghost in sorted(gone)),
                *(self._membership(ghost, user.name, SendKind.JOIN)
                  for ghost, user in renamed.items()),
            ])  # fmt: skip
            # Only now: what could not be stored comes again, and must not find itself done.
            present -= gone
            present.update(renamed)
        else:
            self._move_in_turn(dict.fromkeys(sorted(gone), ""), renamed)
        self._missed.clear()
        if self.mode is Members.FULL:
            self._expect(wanted, present)

    def _move_in_turn(self, gone: Mapping[UserId, str], come: Mapping[UserId, RemoteUser]) -> None:
        self._going |= gone
        if self.mode is Members.FULL:  # Others come when they say something.
            self._coming |= come
        self._house.gathering.want(self)

    def _successor(self, ghost: UserId) -> RemoteUser | None:
        """What a ghost's person is called now, if it was missed that they changed the name."""
        found: RemoteUser | None = None
        for _ in range(len(self._missed)):  # Names may go in a circle.
            event = self._missed.get(ghost)
            if not isinstance(event, RemoteRename):
                break
            found, ghost = event.new, self._ghost(event.new)
        return found

    def _why(self, ghost: UserId) -> str:
        match self._missed.get(ghost):
            case RemoteLeave(reason=reason):
                return reason
            case RemoteRename(new=new):
                return _KNOWN_AS.format(new.name)
        return ""

    async def _move(
        self,
        *,
        leave: Sequence[RemoteUser] = (),
        arrive: Sequence[RemoteUser] = (),
        reason: str = "",
        is_urgent: bool = False,
    ) -> None:
        """Have ghosts leave or come at once, or in turn where so many do; those already so are
        left alone. ``is_urgent``: at once however many do."""
        present = await self.known()
        gone = {g: user for user in leave if (g := self._ghost(user)) in present}
        come = {
            g: user
            for user in arrive
            if ((g := self._ghost(user)) not in present or g in gone) and self._may_come(user)
        }
        if not (is_urgent or self._haste.take(len(gone) + len(come))):
            if self._present is None:
                self._match_later()
            else:
                self._move_in_turn({g: user.name for g, user in gone.items()}, come)
            return
        leaving = {
            g: self._membership(g, user.name, SendKind.LEAVE, reason) for g, user in gone.items()
        }
        await self._house.sender.put([
            *leaving.values(),
            *(self._membership(g, user.name, SendKind.JOIN) for g, user in come.items()),
        ])  # fmt: skip
        # Only now: what could not be stored comes again, and must not find itself done.
        present = self._at_hand  # Who is there may have become known meanwhile.
        if self._present is None:
            self._leaving |= leaving
        present.difference_update(gone)
        present.update(come)
        for ghost in (*gone, *come):
            self._going.pop(ghost, None)

    def _membership(self, ghost: UserId, name: str, kind: SendKind, reason: str = "") -> Outgoing:
        return membership(self._facts.portal, ghost, name, kind, reason)
