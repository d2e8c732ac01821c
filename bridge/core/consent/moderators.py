"""What those who run a chat may ask of us at any time: to know, to end it, to limit it."""

import logging
import re
from collections.abc import Sequence

from bridge.core.consent.consents import Consents
from bridge.core.lanes.patience import promptly
from bridge.core.permissions.blocks import servers_of
from bridge.core.portals.plumbing import Plumbing
from bridge.core.rooms.house import House
from bridge.core.traffic.bothsides import say_on_both_sides
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError
from bridge.model import AuditAction, LoginRow
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import ModeratorWish, RemoteUser, Wish
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)

_SERVER = re.compile(r"[A-Za-z0-9.-]+\.[A-Za-z0-9-]+(:\d{1,5})?\Z|\[[0-9A-Fa-f:.]+\](:\d{1,5})?\Z")
"""A homeserver's name: something with a dot, so that no person's name is taken for one."""


class Moderators:
    """Does what they wish, and says so on both sides."""

    def __init__(self, house: House, plumbing: Plumbing, consents: Consents) -> None:
        self._house = house
        self._plumbing = plumbing
        self._consents = consents

    async def obey(self, row: LoginRow, wish: ModeratorWish) -> str:
        """Do it; give the answer. Raises a ``DeliveryError`` with a sentence."""
        try:
            return await self._obey(row, wish)
        except MatrixError as error:
            raise TemporaryFailure("the homeserver does not answer as it should") from error

    async def _obey(self, row: LoginRow, wish: ModeratorWish) -> str:
        if wish.wish is Wish.AGREE:
            return await self._consents.agree(row.instance, wish.chat, wish.moderator)
        if wish.wish is Wish.REFUSE:
            return await self._consents.refuse(row.instance, wish.chat, wish.moderator)
        door = self._plumbing.find_door(row.instance, wish.chat.id)
        if door is None:
            raise PermanentFailure(f"{wish.chat.name} is not bridged")
        match wish.wish:
            case Wish.LEAVE:
                return await self._leave(door, wish.moderator)
            case Wish.BLOCK:
                return await self._block(door, wish)
            case Wish.UNBLOCK:
                return await self._unblock(door, wish)
        return await self._status(door)

    async def _status(self, door: Doorway) -> str:
        house, portal = self._house, door.portal
        try:
            room = await promptly(self._describe(portal.room))
        except (MatrixError, TemporaryFailure):
            room = "a Matrix room"  # The rest is said without the homeserver, too.
        blocked = ", ".join(house.blocks.of(portal.instance, portal.chat)) or "nobody"
        paused = " Nothing crosses just now: it is paused." if portal.paused else ""
        return "\n".join((
            f"{portal.chat_name} is bridged to {room}; "
            f"{portal.created_by or house.namespaces.bot} asked for it.{paused}",
            f"Blocked: {blocked}.",
            "You can say: status, leave, block <nick or homeserver>, unblock <the same>.",
            house.announcer.read_more,
        )).rstrip()  # fmt: skip

    async def _describe(self, room: RoomId) -> str:
        house = self._house
        members = await house.intents.joined_members(room)
        count = sum(not house.namespaces.is_ours(one) for one in members)
        people = "1 person" if count == 1 else f"{count} people"
        return f"the Matrix room {await house.intents.room_name(room)}, {people} in it"

    async def _leave(self, door: Doorway, moderator: RemoteUser) -> str:
        portal, by = door.portal, self._ghost(door, moderator)
        # First it is so, and then it is said. What the homeserver must do for it may take longer.
        if await self._consents.withdraw(door, by, f"as {moderator.name} wishes"):
            try:
                await say_on_both_sides(
                    self._house, door,
                    there=f"This channel is no longer bridged to Matrix, as {moderator.name} "
                    "wishes.",
                    here=f"{portal.chat_name} on {portal.instance} is no longer bridged here: "
                    f"{moderator.name}, who runs it, ended it.",
                )  # fmt: skip
            finally:
                self._consents.untie_soon(door)
        instance = self._house.instances.get(portal.instance)
        is_asked = instance is None or self._plumbing.needs_consent(instance, door.chat)
        peace = (
            "you are not asked again for a day" if is_asked
            else "for a day nobody but an admin of this bridge has it bridged again"
        )  # fmt: skip
        return f"{portal.chat_name} is no longer bridged, and {peace}."

    async def _block(self, door: Doorway, wish: ModeratorWish) -> str:
        portal, moderator = door.portal, wish.moderator
        whom, namesakes = await self._whom(door, wish)
        is_new = whom not in self._house.blocks.of(portal.instance, portal.chat)
        await self._record(AuditAction.BLOCK, door, moderator, whom)
        await self._house.blocks.add(portal.instance, portal.chat, whom)
        await self._put_out(door)
        if is_new:
            await say_on_both_sides(
                self._house, door,
                there=f"Nothing of {whom} is carried into this channel any more, as "
                f"{moderator.name} wishes.",
                here=f"{portal.chat_name} on {portal.instance} takes nothing of {whom} any more: "
                f"{moderator.name}, who runs it, wishes so.",
            )  # fmt: skip
        done = f"{whom} is blocked in {portal.chat_name}. Say unblock {whom} to undo that."
        if not namesakes:
            return done
        return f"{done} That is the homeserver; people called so: {', '.join(namesakes)}."

    async def _unblock(self, door: Doorway, wish: ModeratorWish) -> str:
        portal, moderator, about = door.portal, wish.moderator, wish.about
        blocked = self._house.blocks.of(portal.instance, portal.chat)
        whom = about if about in blocked else (await self._whom(door, wish))[0]
        if whom not in blocked:
            raise PermanentFailure(f"{whom} is not blocked in {portal.chat_name}")
        await self._record(AuditAction.UNBLOCK, door, moderator, whom)
        await self._house.blocks.remove(portal.instance, portal.chat, whom)
        await say_on_both_sides(
            self._house, door,
            there=f"What {whom} says is carried into this channel again, as {moderator.name} "
            "wishes.",
            here=f"{portal.chat_name} on {portal.instance} takes what {whom} says again: "
            f"{moderator.name}, who runs it, wishes so.",
        )  # fmt: skip
        return f"{whom} is no longer blocked in {portal.chat_name}."

    async def _whom(self, door: Doorway, wish: ModeratorWish) -> tuple[str, Sequence[str]]:
        """Find whom somebody means: a Matrix id, a homeserver, or a person by name, in the chat
        or else in the room; with a homeserver, also the people who are called like it."""
        about = wish.about
        if about.startswith("@") and ":" in about:
            return about, ()
        try:
            members = await promptly(self._house.intents.joined_members(door.portal.room))
        except (MatrixError, TemporaryFailure):
            # For neither of these is ours needed: it may be away, and what is to be kept out not.
            if _SERVER.match(about):
                return about.lower(), ()
            if wish.person is not None:
                return wish.person, ()
            raise
        key = about.casefold()
        named = [
            user for user, name in members.items()
            if key in (name.casefold(), user[1:].partition(":")[0].casefold())
            and not self._house.namespaces.is_ours(user)
        ]  # fmt: skip
        # First: people call themselves what they like, and could shield their homeserver by that.
        if _SERVER.match(about) or about.lower() in set().union(*map(servers_of, members)):
            return about.lower(), sorted({*named, *filter(None, [wish.person])})
        if wish.person is not None:
            return wish.person, ()
        if len(named) == 1:
            return named[0], ()
        if named:
            raise PermanentFailure(f"several are called {about}: {', '.join(sorted(named))}")
        raise PermanentFailure(
            f"nobody from Matrix is called {about} here; give the Matrix id or the homeserver"
        )

    async def _put_out(self, door: Doorway) -> None:
        """Put the connections of whoever is blocked out of the chat."""
        portal, house = door.portal, self._house
        instance = house.instances.get(portal.instance)
        for session in instance.sessions if instance is not None else ():
            owner = session.row.owner
            if owner is not None and house.blocks.cover(portal.instance, portal.chat, owner):
                try:
                    await door.let_go(owner, "is blocked in this channel")
                except DeliveryError as error:
                    log.info("a puppet is not there: %s", error, extra={"event": "not_there"})

    async def _record(
        self, action: AuditAction, door: Doorway, moderator: RemoteUser, whom: str
    ) -> None:
        """Note it before it is done."""
        portal = door.portal
        await self._house.audit.record(
            actor=self._ghost(door, moderator), action=action,
            subject=UserId(whom) if whom.startswith("@") else None,
            target=f"{portal.instance} {portal.chat} {whom}",
        )  # fmt: skip

    def _ghost(self, door: Doorway, moderator: RemoteUser) -> UserId:
        return self._house.namespaces.ghost(door.portal.instance, moderator.id)
