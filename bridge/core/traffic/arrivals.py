"""What comes from the network into a portal's room: messages as ghosts, and who is there."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from bridge.core.outbox.outgoing import notice, once, transaction_id
from bridge.core.outbox.targets import NEW
from bridge.core.rooms.attendance import Attendance
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.house import House
from bridge.core.rooms.standing import is_left_out, speaker_of
from bridge.matrix.dates import SAID_AT
from bridge.matrix.html import content_for
from bridge.matrix.htmltree import clean
from bridge.matrix.profiles import say_as
from bridge.model import LinkKind, Members, Outgoing, Portal, SendKind
from bridge.sdk.commands import as_typed
from bridge.sdk.events import (
    Profile,
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
    RemoteShutOut,
    RemoteTyping,
    RemoteUser,
)
from bridge.sdk.ids import RemoteMessageId, UserId
from bridge.sdk.rich import Mention, mentions_as

_LONGEST_KEY = 100
_LONGEST_TYPING = 30.0
_FRESH = 24 * 3600.0
"""Seconds from when something was said until it counts as replayed."""
_TOO_LATE = 7 * 24 * 3600.0
"""Seconds after which what is told late no longer bears in Matrix the time at which it was said:
that may be a mistake, and some homeservers would seem to have had it for longer than what crosses
to another network (``intake.routes``)."""
_SHORT = 100
"""Characters of a changed message that clients show which know no edits."""


class _Voice(NamedTuple):
    """As whom somebody of the chat is heard in the room."""

    ghost: UserId
    user: UserId
    """The ghost, or the bot."""
    name: str
    """Empty for the bot."""
    double: str
    """The person whose own account may say it; empty for nobody."""
    is_relayed: bool
    """The bot says it: nobody of the chat has a ghost in the room."""


class Arrivals:
    """One portal's way into Matrix."""

    def __init__(self, facts: ChatFacts, house: House) -> None:
        self._facts = facts
        self._house = house
        self.attendance = Attendance(facts, house)
        self.let_speak: Callable[[UserId], Awaitable[None]] = facts.let_speak
        """Called before a ghost says something: not everybody may in the room."""
        self._is_shut_out = facts.portal.shut_out
        """The room was told that nothing of the chat is heard."""

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
            case RemoteJoin() | RemoteLeave() | RemoteRename() | RemoteMembers():
                await self.attendance.receive(event)
            case RemoteShutOut():
                await self._tell_shut_out(event.reason)
            case RemoteRemark():
                await self._receive_remark(event)

    async def note_shut_out(self, event: RemoteShutOut) -> None:
        """Take note of it although the room cannot be told now: what comes next is told.

        Raises ``TemporaryFailure`` when the database is away.
        """
        self._is_shut_out = bool(event.reason)
        await self._store_shut_out()

    def _ghost(self, user: RemoteUser) -> UserId:
        return self._house.namespaces.ghost(self._facts.portal.instance, user.id)

    def _opted_out(self, user: RemoteUser) -> bool:
        return is_left_out(self._house, self._facts.portal.instance, user, self._facts.portal.id)

    async def _is_left_out(self, user: RemoteUser) -> bool:
        if not self._opted_out(user):
            return False
        self._house.telemetry.count_send("to_matrix", "dropped")
        # Whose account it is may be known only now that they speak.
        await self.attendance.let_go(user.id)
        return True

    async def _receive_message(self, event: RemoteMessage | RemoteEdit) -> None:
        if await self._is_left_out(event.sender):
            return
        portal, voice = self._facts.portal, self._voice(event.sender)
        body = mentions_as(event.body, self._with_ghost)
        self._house.typing.show(portal.room, voice.ghost, 0)
        contents = content_for(body, event.kind)
        profile = event.profile if isinstance(event, RemoteMessage) else None
        if profile is None and voice.is_relayed:
            profile = Profile(id=event.sender.id, name=event.sender.name)
        if profile is not None:
            say_as(contents, profile.id, profile.name)
        if isinstance(event, RemoteEdit):
            contents[0] = _edited(contents[0])
            what, link, about, first = "edit", LinkKind.EDIT, event.target, 0
        else:
            what, link, first = "message", LinkKind.MESSAGE, event.part
            about = event.reply_to or RemoteMessageId("")
        said_at = int(event.at.timestamp() * 1000)
        ago = self._house.clock.now().timestamp() - said_at / 1000
        # Not an edit: clients show the latest by time, and one before it may not be dated.
        is_late = isinstance(event, RemoteMessage) and event.late
        is_dated = is_late and 0 < ago <= _TOO_LATE
        await self._put([
            Outgoing(
                room=portal.room,
                user=voice.user,
                kind=SendKind.EVENT,
                type="m.room.message",
                content={**content, SAID_AT: said_at},
                transaction_id=self._id(what, event.id, first, piece, voice.ghost),
                portal=portal.id,
                remote_id=event.id,
                part=first + piece,
                name=voice.name,
                double=voice.double,
                about="" if piece else about,
                link=link,
                replayed=ago > _FRESH,
                said_at=said_at if is_dated else None,
            )
            for piece, content in enumerate(contents)
        ], event.sender, voice)  # fmt: skip

    async def _receive_reaction(self, event: RemoteReaction) -> None:
        if await self._is_left_out(event.sender):
            return
        voice = self._voice(event.sender)
        key = clean(event.key).strip()[:_LONGEST_KEY]
        if not key:
            return
        await self._put([
            Outgoing(
                room=self._facts.portal.room,
                user=voice.user,
                kind=SendKind.EVENT,
                type="m.reaction",
                content={"m.relates_to": {"key": key}},
                transaction_id=self._id("reaction", event.id, voice.ghost),
                portal=self._facts.portal.id,
                remote_id=event.id,
                name=voice.name,
                double=voice.double,
                about=event.target,
                link=LinkKind.REACTION,
                alias=event.alias or "",
            )
        ], event.sender, voice)  # fmt: skip

    async def _receive_redaction(self, event: RemoteRedaction) -> None:
        # Also for one who does not want to be bridged: what was said before may go.
        await self._house.sender.put([
            Outgoing(
                room=self._facts.portal.room,
                user=self._house.namespaces.bot,
                kind=SendKind.REDACT,
                content={"reason": clean(event.reason)} if event.reason else {},
                transaction_id=self._id("redaction", event.target, *filter(None, [event.id])),
                portal=self._facts.portal.id,
                about=event.target,
            )
        ])  # fmt: skip

    async def _receive_remark(self, event: RemoteRemark) -> None:
        house, portal = self._house, self._facts.portal
        if any(map(self._opted_out, event.people)):
            return
        said = notice(
            house.key_of, room=portal.room, user=house.namespaces.bot, text=event.text,
            source=("remark", portal.id, event.id),
        )  # fmt: skip
        # It tells of the chat, so it goes where what the chat says may go.
        await house.sender.put([replace(said, portal=portal.id, link=LinkKind.REMARK)])

    async def _tell_shut_out(self, reason: str) -> None:
        """Tell the room, once each way: else it sees only that what it says goes out."""
        house, portal = self._house, self._facts.portal
        # Also where the room was told before: an earlier process may have done that.
        house.bare_orders.note(portal.room, reason)
        if self._is_shut_out != bool(reason):
            self._is_shut_out = bool(reason)  # First: it may be found in two ways at once.
            try:
                # Not as the portal's: who is seen there is not known now, and this is not said
                # there.
                await house.sender.put([notice(
                    house.key_of, room=portal.room, user=house.namespaces.bot,
                    text=_shut_out(portal, reason), source=("shut out", once()),
                )])  # fmt: skip
            except BaseException:
                self._is_shut_out = not reason
                raise
        await self._store_shut_out()

    async def _store_shut_out(self) -> None:
        """Have the next process know what the room was told."""
        while self._facts.portal.shut_out is not (is_out := self._is_shut_out):
            await self._house.store.set_shut_out(self._facts.portal.id, is_out)
            self._facts.portal = replace(self._facts.portal, shut_out=is_out)

    async def _show_typing(self, event: RemoteTyping) -> None:
        ghost = self._ghost(event.user)
        is_shown = not self._facts.portal.blocked and not self._opted_out(event.user)
        if is_shown and ghost in await self.attendance.known():
            seconds = min(event.seconds, _LONGEST_TYPING) if event.is_typing else 0
            self._house.typing.show(self._facts.portal.room, ghost, seconds)

    async def _put(self, outgoing: Sequence[Outgoing], sender: RemoteUser, voice: _Voice) -> None:
        if not voice.is_relayed:
            # Only now that it is said: levels tell everybody who spoke in the chat.
            await self.let_speak(voice.ghost)
        await self._house.sender.put(outgoing)
        self.attendance.note_spoke(sender)

    def _voice(self, user: RemoteUser) -> _Voice:
        ghost, speaker = self._ghost(user), speaker_of(self._house, self._facts.portal, user)
        if self.attendance.mode is Members.NONE and not speaker:
            return _Voice(ghost, self._house.namespaces.bot, "", "", is_relayed=True)
        return _Voice(ghost, ghost, user.name, speaker, is_relayed=False)

    def _id(self, what: str, *parts: object) -> str:
        return transaction_id(self._house.key_of, what, self._facts.portal.id, *parts)

    def _with_ghost(self, mention: Mention) -> Mention:
        """Say who in Matrix somebody of the network is."""
        if mention.remote is None or mention.user:
            return mention
        return replace(mention, user=self._ghost(RemoteUser(id=mention.remote, name=mention.name)))


def _shut_out(portal: Portal, reason: str) -> str:
    """What a room is told when the relay is out of its chat, or without a reason in it again."""
    name = f"{portal.chat_name} on {portal.instance}"
    if not reason:
        return f"I am in {name} again: what is said there comes here."
    out = f"I am out of {name}, so what is said there does not come here: {reason.rstrip('.')}."
    if as_typed(f"bridge {portal.instance} ") in reason:
        return out  # The module says what to bridge instead: this chat would be refused.
    return (
        f"{out} Once that is over, say {as_typed(f'bridge {portal.instance} {portal.chat_name}')}."
    )


def _edited(content: dict[str, Any]) -> dict[str, Any]:
    """Make a message the new text of another; which one it is is added when it is sent."""
    shown = {"msgtype": content["msgtype"], "body": f"* {content['body'][:_SHORT]}"}
    return shown | {"m.mentions": {}, NEW: content}
