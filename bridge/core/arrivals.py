"""What comes from the network into a portal's room: messages as ghosts, and who is there."""

from collections.abc import Sequence

from bridge.core.house import House
from bridge.core.outgoing import once, transaction_id
from bridge.matrix.html import content_for
from bridge.matrix.profiles import say_as
from bridge.model import Outgoing, Permission, Portal, SendKind
from bridge.sdk.events import (
    RemoteEvent,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRename,
    RemoteUser,
)
from bridge.sdk.ids import RemoteUserId, UserId


class Arrivals:
    """One portal's way into Matrix."""

    def __init__(self, portal: Portal, house: House) -> None:
        self._portal = portal
        self._house = house
        self._present: set[UserId] | None = None

    async def receive(self, event: RemoteEvent) -> None:
        """Bring one event of the network into the room; returns when it is in the outbox."""
        match event:
            case RemoteMessage():
                await self._receive_message(event)
            case RemoteJoin():
                await self._ghosts(arrive=[event.user])
            case RemoteLeave():
                await self._ghosts(leave=[event.user], reason=event.reason)
            case RemoteRename():
                present = await self.present()
                arrive = [event.new] if self._ghost(event.old) in present else []
                if event.old.id != event.new.id:
                    reason = f"is now known as {event.new.name}"
                    await self._ghosts(leave=[event.old], arrive=arrive, reason=reason)
            case RemoteMembers():
                await self._match_members(event)

    async def present(self) -> set[UserId]:
        """Our ghosts of this portal's instance that are in the room."""
        if self._present is None:
            members = await self._house.intents.joined_members(self._portal.room)
            parse_ghost = self._house.namespaces.parse_ghost
            self._present = {
                UserId(user)
                for user in members
                if (ghost := parse_ghost(user)) and ghost[0] == self._portal.instance
            }
        return self._present

    async def let_go(self, user: RemoteUserId) -> None:
        """Have somebody's ghost out of the room who does not want to be there."""
        await self._ghosts(leave=[RemoteUser(id=user, name=user)])

    def _ghost(self, user: RemoteUser) -> UserId:
        return self._house.namespaces.ghost(self._portal.instance, user.id)

    def _opted_out(self, person: UserId) -> bool:
        return self._house.optouts.cover(person, self._portal.id)

    def _may_come(self, user: RemoteUser) -> bool:
        """Whether the ghost is to be in the room: not of those who said no, nor of those who
        are there themselves."""
        return not self._speaker(user) and not self._opted_out(self._ghost(user))

    def _speaker(self, user: RemoteUser) -> str:
        """Whose own Matrix account speaks for the user; empty if none does."""
        house, instance = self._house, self._portal.instance
        found = house.double_puppets.find_speaker(instance, user.id)
        if found is None or not house.permissions.allows(found, Permission.USER, instance):
            return ""
        return found

    async def _receive_message(self, event: RemoteMessage) -> None:
        ghost = self._ghost(event.sender)
        owner = self._house.double_puppets.find_owner(self._portal.instance, event.sender.id)
        if self._opted_out(ghost) or (owner is not None and self._opted_out(owner)):
            self._house.telemetry.sends.labels(direction="to_matrix", outcome="dropped").inc()
            return
        contents = content_for(event.body, event.kind)
        if event.profile is not None:
            say_as(contents, event.profile.id, event.profile.name)
        outgoing = [
            Outgoing(
                room=self._portal.room,
                user=ghost,
                kind=SendKind.EVENT,
                type="m.room.message",
                content=content,
                transaction_id=transaction_id(
                    self._house.key_of,
                    "message",
                    self._portal.id,
                    event.id,
                    event.part,
                    piece,
                    ghost,
                ),
                portal=self._portal.id,
                remote_id=event.id,
                part=event.part + piece,
                name=event.sender.name,
                double=self._speaker(event.sender),
            )
            for piece, content in enumerate(contents)
        ]
        await self._house.sender.put(outgoing)
        if self._present is not None:
            self._present.add(ghost)

    async def _ghosts(
        self,
        *,
        leave: Sequence[RemoteUser] = (),
        arrive: Sequence[RemoteUser] = (),
        reason: str = "",
    ) -> None:
        """Have ghosts leave or come; those already so are left alone."""
        present = await self.present()
        gone = {g: user for user in leave if (g := self._ghost(user)) in present}
        stay = present - gone.keys()
        come = {
            g: user
            for user in arrive
            if (g := self._ghost(user)) not in stay and self._may_come(user)
        }
        await self._house.sender.put([
            *(self._membership(g, user, SendKind.LEAVE, reason) for g, user in gone.items()),
            *(self._membership(g, user, SendKind.JOIN, "") for g, user in come.items()),
        ])  # fmt: skip
        # Only now: what could not be stored comes again, and must not find itself done.
        present.difference_update(gone)
        present.update(come)

    async def _match_members(self, event: RemoteMembers) -> None:
        present = await self.present()
        wanted = {self._ghost(user): user for user in event.users if self._may_come(user)}
        gone = present - wanted.keys()
        outgoing = [
            Outgoing(
                room=self._portal.room, user=ghost, kind=SendKind.LEAVE, content={},
                transaction_id=once(), portal=self._portal.id,
            )
            for ghost in sorted(gone)
        ]  # fmt: skip
        await self._house.sender.put(outgoing)
        present -= gone
        await self._ghosts(arrive=list(wanted.values()))

    def _membership(
        self, ghost: UserId, user: RemoteUser, kind: SendKind, reason: str
    ) -> Outgoing:
        return Outgoing(
            room=self._portal.room, user=ghost, kind=kind,
            content={"reason": reason} if reason else {},
            transaction_id=once(), portal=self._portal.id, name=user.name,
        )  # fmt: skip
