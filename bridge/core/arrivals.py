"""What comes from the network into a portal's room: messages as ghosts, and who is there."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bridge.core.chatfacts import ChatFacts
from bridge.core.house import House
from bridge.core.outgoing import notice, once, transaction_id
from bridge.core.targets import NEW
from bridge.matrix.html import content_for
from bridge.matrix.htmltree import clean
from bridge.matrix.profiles import say_as
from bridge.model import LinkKind, Outgoing, Permission, Portal, SendKind
from bridge.sdk.events import (
    RemoteEdit,
    RemoteEvent,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemark,
    RemoteRename,
    RemoteTyping,
    RemoteUser,
)
from bridge.sdk.ids import RemoteMessageId, RemoteUserId, UserId
from bridge.sdk.rich import Mention, mentions_as

_LONGEST_KEY = 100
_LONGEST_TYPING = 30.0
_SHORT = 100
"""Characters of a changed message that clients show which know no edits."""


class Arrivals:
    """One portal's way into Matrix."""

    def __init__(self, facts: ChatFacts, house: House) -> None:
        self._facts = facts
        self._house = house
        self._present: set[UserId] | None = None

    @property
    def _portal(self) -> Portal:
        return self._facts.portal

    async def receive(self, event: RemoteEvent) -> None:
        """Bring one event of the network into the room; returns when it is in the outbox."""
        match event:
            case RemoteMessage() | RemoteEdit():
                await self._receive_message(event)
            case RemoteReaction():
                await self._receive_reaction(event)
            case RemoteRedaction():
                await self._receive_redaction(event)
            case RemoteTyping():
                await self._show_typing(event)
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
            case RemoteRemark():
                house = self._house
                await house.sender.put([notice(
                    house.key_of, room=self._portal.room, user=house.namespaces.bot,
                    text=event.text, source=("remark", self._portal.id, event.id),
                )])  # fmt: skip

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

    def _is_left_out(self, user: RemoteUser) -> bool:
        """Whether the person does not want to be bridged: the ghost, or whose account it is."""
        owner = self._house.double_puppets.find_owner(self._portal.instance, user.id)
        if not self._opted_out(self._ghost(user)) and not (owner and self._opted_out(owner)):
            return False
        self._house.telemetry.sends.labels(direction="to_matrix", outcome="dropped").inc()
        return True

    async def _receive_message(self, event: RemoteMessage | RemoteEdit) -> None:
        if self._is_left_out(event.sender):
            return
        ghost, body = self._ghost(event.sender), mentions_as(event.body, self._with_ghost)
        self._house.typing.show(self._portal.room, ghost, 0)
        contents = content_for(body, event.kind)
        if isinstance(event, RemoteEdit):
            contents[0] = _edited(contents[0])
            what, link, about, first = "edit", LinkKind.EDIT, event.target, 0
        else:
            if event.profile is not None:
                say_as(contents, event.profile.id, event.profile.name)
            what, link, first = "message", LinkKind.MESSAGE, event.part
            about = event.reply_to or RemoteMessageId("")
        await self._put([
            Outgoing(
                room=self._portal.room,
                user=ghost,
                kind=SendKind.EVENT,
                type="m.room.message",
                content=content,
                transaction_id=self._id(what, event.id, first, piece, ghost),
                portal=self._portal.id,
                remote_id=event.id,
                part=first + piece,
                name=event.sender.name,
                double=self._speaker(event.sender),
                about="" if piece else about,
                link=link,
            )
            for piece, content in enumerate(contents)
        ], ghost)  # fmt: skip

    async def _receive_reaction(self, event: RemoteReaction) -> None:
        if self._is_left_out(event.sender):
            return
        ghost = self._ghost(event.sender)
        key = clean(event.key).strip()[:_LONGEST_KEY]
        if not key:
            return
        await self._put([
            Outgoing(
                room=self._portal.room,
                user=ghost,
                kind=SendKind.EVENT,
                type="m.reaction",
                content={"m.relates_to": {"key": key}},
                transaction_id=self._id("reaction", event.id, ghost),
                portal=self._portal.id,
                remote_id=event.id,
                name=event.sender.name,
                double=self._speaker(event.sender),
                about=event.target,
                link=LinkKind.REACTION,
            )
        ], ghost)  # fmt: skip

    async def _receive_redaction(self, event: RemoteRedaction) -> None:
        # Also for one who does not want to be bridged: what was said before may go.
        await self._house.sender.put([
            Outgoing(
                room=self._portal.room,
                user=self._house.namespaces.bot,
                kind=SendKind.REDACT,
                content={"reason": clean(event.reason)} if event.reason else {},
                transaction_id=self._id("redaction", event.target),
                portal=self._portal.id,
                about=event.target,
            )
        ])  # fmt: skip

    async def _show_typing(self, event: RemoteTyping) -> None:
        ghost = self._ghost(event.user)
        is_shown = not self._portal.blocked and not self._opted_out(ghost)
        if is_shown and ghost in await self.present():
            seconds = min(event.seconds, _LONGEST_TYPING) if event.is_typing else 0
            self._house.typing.show(self._portal.room, ghost, seconds)

    async def _put(self, outgoing: Sequence[Outgoing], ghost: UserId) -> None:
        await self._house.sender.put(outgoing)
        if self._present is not None:
            self._present.add(ghost)

    def _id(self, what: str, *parts: object) -> str:
        return transaction_id(self._house.key_of, what, self._portal.id, *parts)

    def _with_ghost(self, mention: Mention) -> Mention:
        """Say who in Matrix somebody of the network is."""
        if mention.remote is None or mention.user:
            return mention
        return replace(mention, user=self._ghost(RemoteUser(id=mention.remote, name=mention.name)))

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


def _edited(content: dict[str, Any]) -> dict[str, Any]:
    """Make a message the new text of another; which one it is is added when it is sent."""
    shown = {"msgtype": content["msgtype"], "body": f"* {content['body'][:_SHORT]}"}
    return shown | {"m.mentions": {}, NEW: content}
