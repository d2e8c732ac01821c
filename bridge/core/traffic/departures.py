"""What goes from a portal's room to the network: events read as what a module is given."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge.core.host.actions import holds_order
from bridge.core.lanes.deletions import redacted_by
from bridge.core.lanes.landing import Stored, now_stored
from bridge.core.rooms.house import House
from bridge.core.traffic.rings import Rings
from bridge.core.traffic.words import difference, excerpt, open_text
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.matrix.html import parse
from bridge.matrix.htmltree import clean
from bridge.matrix.medialinks import Media, read_mxc
from bridge.matrix.profiles import find_avatar
from bridge.matrix.rooms import read_visibility
from bridge.matrix.wordings import POLLS, wording
from bridge.model import LinkKind, MessageLink, Portal
from bridge.sdk.capabilities import Capabilities, Level
from bridge.sdk.errors import TemporaryFailure, Unsupported
from bridge.sdk.events import Edit, Message, MessageKind, Reaction, Redaction
from bridge.sdk.events import Sender as Person
from bridge.sdk.ids import EventId, RemoteMessageId, RemoteUserId, RoomId, UserId
from bridge.sdk.rich import Link, Mention, Node, Rich, Text, is_bare, mentions_as
from bridge.sdk.text import to_plain, without_turns

Said = Message | Edit | Reaction | Redaction
"""What may be said to a network."""

Crossing = tuple[EventId, LinkKind]
"""An event, and as what it crossed."""

_SPOKEN = {"m.room.message", "m.sticker"} | POLLS
_KINDS = {"m.text": MessageKind.TEXT, "m.emote": MessageKind.EMOTE, "m.notice": MessageKind.NOTICE}
_RECENT = 300
"""Seconds in which everybody knows what is answered."""
_LONGEST_KEY = 100
_PREVIEW = 200
"""Graphemes of a long text that are said beside the link to it."""
_REMEMBERED = 4000
"""Characters of a message that are kept in memory, to tell what an edit changed."""
_TAKEN_BACK = "", ""
"""Stands for what a message said that was taken back."""
_SEEN_BY_ALL = {"shared", "world_readable"}


class Departures:
    """One portal's way out of Matrix."""

    def __init__(self, portal: Portal, house: House) -> None:
        self._portal = portal
        self._house = house
        self.rings = Rings(portal, house)
        self._uploaded: Recent[str, Media] = Recent(50)
        """Where long texts are, for those that are tried again."""
        self._edited: Recent[str, str] = Recent(200)
        """Which message an edit changed, by the edit."""
        self._last = ""
        """Event or remote id of what was said last."""

    # --- reading ---

    async def read(
        self, event: dict[str, Any], capabilities: Capabilities, stored: Stored = now_stored
    ) -> Said | None:
        """Read the event; None for what is left out by rule.

        Of a message that is about no other nothing shows before it is ``stored``. Raises
        ``Unsupported`` for what the network rejects.
        """
        if event["type"] == "m.room.redaction":
            return await self._redaction(event, capabilities.redactions)
        if not event["content"] or self._is_taken_back(event["event_id"]):
            return None  # Its sender took it back before it came to us, or while it waited.
        if event["type"] == "m.reaction":
            return await self._reaction(event, capabilities.reactions)
        if event["type"] in _SPOKEN:
            return await self._spoken(event, capabilities, stored)
        return None

    async def _spoken(
        self, event: dict[str, Any], capabilities: Capabilities, stored: Stored
    ) -> Said | None:
        content = event["content"]
        if self._is_order(event) or await self.rings.stop(event, stored):
            return None  # A command to us, or what goes round through other bridges.
        kind = _KINDS.get(str(content.get("msgtype")))
        relates = _relation(event)
        if relates.get("rel_type") == "m.replace":
            return await self._edit(event, kind or MessageKind.TEXT, relates, capabilities.edits)
        if kind is None:
            kind, worded = MessageKind.TEXT, wording(event)
            body = Rich.plain(worded) if worded else self._media(event, capabilities.media)
            if body is None:
                return None
        else:
            body = self.read_body(content)
        reply_to, prefix = await self._answered(relates.get("m.in_reply_to"), capabilities)
        if not body.nodes:
            return None
        self._remember(event["event_id"], body)
        return Message(
            chat=self._portal.chat,
            event_id=EventId(event["event_id"]),
            sender=await self._person(event),
            kind=kind,
            body=Rich((*prefix, *body.nodes)) if prefix else body,
            reply_to=reply_to,
        )

    def _media(self, event: dict[str, Any], level: Level) -> Rich | None:
        """A link to a picture or a file, after its caption; None if left out."""
        content, links = event["content"], self._house.media_links
        media = read_mxc(content.get("url"))
        if self._is_left_out(level, "pictures, files and the like"):
            return None
        if media is None or not links.can_link:
            raise Unsupported(
                f"pictures, files and the like cross to {self._portal.instance} as links, for "
                "which this bridge has no public address. Whoever runs it can set one "
                "(web.public_url)"
                if media is not None
                else f"this kind of message does not cross to {self._portal.instance}"
            )
        body, name = content.get("body"), content.get("filename")
        name = clean(name if isinstance(name, str) else body if isinstance(body, str) else "file")
        link = Link(
            links.make(media, name, self._mark(event)),
            (Text(excerpt(without_turns(name)) or "file"),),
        )
        is_captioned = isinstance(body, str) and clean(body) not in {name, ""}
        return (
            Rich((*self.read_body(content).nodes, Text(" "), link))
            if is_captioned
            else Rich((link,))
        )

    async def shortened(self, message: Message, event: dict[str, Any]) -> Message:
        """Say the beginning of a long text, and a link to all of it.

        ``event`` is what the text comes of.

        Raises ``PermanentFailure`` and ``TemporaryFailure`` if it cannot be stored.
        """
        text, links = to_plain(message.body), self._house.media_links
        media = self._uploaded.get(message.event_id)
        if media is None:
            data = text.encode("utf-8", "replace")
            media = await self._house.media.put(
                data, "text/plain; charset=utf-8", "message.txt", what="the text"
            )
            self._uploaded.put(message.event_id, media)
        number = text.count("\n") + 1
        whole = f"all {number} lines" if number > 1 else "all of it"
        link = Link(links.make(media, "message.txt", self._mark(event)), (Text(whole),))
        beginning = excerpt(open_text(message.body), _PREVIEW)
        return replace(message, body=Rich((Text(f"{beginning} "), link)))

    def _mark(self, event: dict[str, Any]) -> str:
        """Mark a link with the message that has to go for it to end.

        Of messages that change each other it is the first: that is the one people delete.
        """
        relates = _relation(event)
        changed = relates.get("event_id") if relates.get("rel_type") == "m.replace" else None
        shown_by = EventId(changed if isinstance(changed, str) else event["event_id"])
        return self._house.media_links.mark_of(RoomId(event["room_id"]), shown_by)

    async def _edit(
        self, event: dict[str, Any], kind: MessageKind, relates: dict[str, Any], level: Level
    ) -> Edit | None:
        new, target = event["content"].get("m.new_content"), relates.get("event_id")
        if not isinstance(new, dict) or not isinstance(target, str):
            return None
        links = [one for one in await self.links(target) if one.kind is LinkKind.MESSAGE]
        # Only who wrote the message may change it.
        if not any(link.sender == event["sender"] for link in links):
            return None
        await self._end_replaced(event, EventId(target), new)
        body = self.read_body(new)
        if not body.nodes or self._is_left_out(level, "changes of messages"):
            return None
        return Edit(
            chat=self._portal.chat,
            event_id=EventId(event["event_id"]),
            sender=await self._person(event),
            targets=_remote_ids(links),
            kind=_KINDS.get(str(new.get("msgtype")), kind),
            body=body,
        )

    async def _end_replaced(
        self, event: dict[str, Any], target: EventId, new: Mapping[str, Any]
    ) -> None:
        """End the links to a file in whose place an edit puts another."""
        media, room = read_mxc(new.get("url")), RoomId(event["room_id"])
        if media is None:
            return
        was = await self._house.intents.find_content(room, target)
        # What can no longer be seen may have been another.
        if was is None or read_mxc(was.get("url")) != media:
            await self._house.deletions.end_links(room, target)

    async def _reaction(self, event: dict[str, Any], level: Level) -> Reaction | None:
        relates = _relation(event)
        key, target = relates.get("key"), relates.get("event_id")
        if not isinstance(key, str) or not isinstance(target, str) or not clean(key).strip():
            return None
        links = [one for one in await self.links(target) if one.kind is LinkKind.MESSAGE]
        if not links or self._is_left_out(level, "reactions"):
            return None
        remote = _remote_ids(links)
        return Reaction(
            chat=self._portal.chat,
            event_id=EventId(event["event_id"]),
            sender=await self._person(event),
            target=remote[0] if remote else RemoteMessageId(""),
            key=" ".join(clean(key).split())[:_LONGEST_KEY],
        )

    async def _redaction(self, event: dict[str, Any], level: Level) -> Redaction | None:
        links = [
            one
            for one in await self.links(redacted_by(event))
            if one.kind not in {LinkKind.REDACTION, LinkKind.REMARK}
            # Who may delete in a room that the bridge has left may not in its present one.
            and one.room == event["room_id"]
        ]
        if not links or self._is_left_out(level, "deletions"):
            return None
        reason = event["content"].get("reason")
        return Redaction(
            chat=self._portal.chat,
            event_id=EventId(event["event_id"]),
            sender=await self._person(event),
            targets=_remote_ids(links),
            reason=clean(reason) if isinstance(reason, str) else "",
            is_own=links[0].sender == event["sender"],
        )

    def _is_left_out(self, level: Level, what: str) -> bool:
        if level is Level.REJECT:
            raise Unsupported(f"{what} do not cross to {self._portal.instance}")
        return level is Level.DROP

    async def _person(self, event: dict[str, Any]) -> Person:
        sender = UserId(event["sender"])
        name = await self._house.intents.display_name(sender, self._portal.room)
        return Person(user_id=sender, name=name)

    async def picture(self, event: dict[str, Any]) -> str | None:
        """A link to the sender's picture, None if there is none or no public address."""
        links, sender = self._house.media_links, UserId(event["sender"])
        if not links.can_link:
            return None
        avatar = find_avatar(event["content"]) or await self._house.intents.avatar(
            sender, self._portal.room
        )
        media = read_mxc(avatar)
        return links.make(media, "avatar") if media is not None else None

    def read_body(self, content: Mapping[str, Any]) -> Rich:
        """Read the text of a message's content, with who of the network is mentioned in it."""
        return mentions_as(parse(content), self._with_remote)

    def _with_remote(self, mention: Mention) -> Mention:
        """Tell the module who on its network is meant."""
        ghost = self._house.namespaces.parse_ghost(mention.user)
        if ghost is None or ghost[0] != self._portal.instance:
            return mention
        return replace(mention, remote=RemoteUserId(ghost[1]))

    def _is_order(self, event: dict[str, Any]) -> bool:
        """Whether it is a command to us, or would be one with a secret, had it our name."""
        content, house = event["content"], self._house
        return holds_order(content) or (
            not house.namespaces.is_ghost(event["sender"])
            and house.bare_orders.holds(self._portal.room, content)
        )

    # --- in words ---

    async def in_words(self, event: dict[str, Any], said: Said) -> Message | None:
        """Say it in plain text, for a network that has no other means; None if there is no need.

        What it says is not what the event says: the excerpts of others' words in it are checked
        as those of answers are.
        """
        match said:
            case Edit():
                kind, body = await self._changed(event, said)
            case Reaction():
                kind, body = MessageKind.EMOTE, await self._reacted(event, said)
            case Redaction():
                kind, body = MessageKind.EMOTE, await self._taken_back(event, said)
            case Message():
                return said
        if not body.nodes:
            return None
        return Message(
            chat=said.chat,
            event_id=said.event_id,
            sender=said.sender,
            kind=kind,
            body=body,
            relayed=said.relayed,
            reply_to=said.target if isinstance(said, Reaction) and said.target else None,
        )

    async def _changed(self, event: dict[str, Any], edit: Edit) -> tuple[MessageKind, Rich]:
        was, was_with_hidden = await self._texts_of(_annotated(event))
        new, with_hidden = _texts(edit.body)
        told = difference(was, new)
        # What has changed within a spoiler shows only where all of it is said again.
        is_hidden = new != with_hidden and told != difference(was_with_hidden, with_hidden)
        if told == difference("", new) or is_hidden:
            return edit.kind, Rich((Text("* "), *edit.body.nodes))
        return MessageKind.TEXT, Rich.plain(told)

    async def _reacted(self, event: dict[str, Any], reaction: Reaction) -> Rich:
        target = _annotated(event)
        if self._last and self._last in {target, reaction.target}:
            return Rich.plain(f"reacted with {reaction.key}")
        # No name: whoever is named on IRC is alerted.
        quoted = await self._quote(target)
        about = f'"{quoted}"' if quoted else "an earlier message"
        return Rich.plain(f"reacted with {reaction.key} to {about}")

    async def _taken_back(self, event: dict[str, Any], redaction: Redaction) -> Rich:
        links = await self.links(redacted_by(event))
        if all(link.kind is LinkKind.REACTION for link in links):
            return Rich()
        if redaction.is_own:
            return Rich.plain("took back a message")
        return Rich((Text("deleted a message of "), await self._named(links[0].sender)))

    # --- answers ---

    async def _answered(
        self, target: object, capabilities: Capabilities
    ) -> tuple[RemoteMessageId | None, tuple[Node, ...]]:
        """The remote id of the message answered, and what names it, if this portal bridged it."""
        event_id = target.get("event_id") if isinstance(target, dict) else None
        if not isinstance(event_id, str):
            return None, ()
        links = [one for one in await self.links(event_id) if one.kind is LinkKind.MESSAGE]
        if not links or self._is_left_out(capabilities.replies, "answers"):
            return None, ()
        remote = RemoteMessageId(links[0].remote_id) if links[0].remote_id else None
        if capabilities.replies is Level.FULL:
            return remote, ()
        name = await self._named(links[0].sender)
        quoted = ""
        if not self._is_recent(links[0], capabilities.limits.get("quote_after", _RECENT)):
            quoted = await self._quote(event_id)
        return remote, (name, Text(f' ("{quoted}"): ' if quoted else ": "))

    async def _named(self, user: UserId) -> Mention:
        name = await self._house.intents.display_name(user, self._portal.room)
        return self._with_remote(Mention(user, name))

    def _is_recent(self, link: MessageLink, seconds: int) -> bool:
        """Whether everybody knows what is meant: it is not long ago, or the last that was said."""
        if self._last and self._last in {link.event_id, link.remote_id}:
            return True
        at = link.confirmed_at or link.received_at
        return at is not None and (self._house.clock.now() - at).total_seconds() < seconds

    async def _quote(self, event_id: str) -> str:
        """The beginning of a message that crossed here; empty if not all in the room may read it,
        or if it was taken back.

        What it is worth is checked by the portal's links: nobody can have another room quoted.
        What it says now, and who could read it when it was said, the homeserver alone knows.
        """
        room, intents = self._portal.room, self._house.intents
        try:
            today = await intents.state(room, "m.room.history_visibility")
            said = await intents.read_said(room, EventId(event_id))
        except (MatrixError, TemporaryFailure):
            return ""
        if said is None or self._is_taken_back(event_id):
            return ""
        if not {said.visibility, read_visibility(today)} <= _SEEN_BY_ALL:
            return ""
        return excerpt(open_text(parse(said.content)))

    async def _texts_of(self, event_id: str) -> tuple[str, str]:
        """What a message said before, without and with its spoilers, as far as we can see it;
        empty if we cannot."""
        texts = self._house.excerpts.get((self._portal.id, event_id))
        if texts is not None:
            return texts
        content = await self._house.intents.find_content(self._portal.room, EventId(event_id))
        return _texts(parse(content), _REMEMBERED) if content else ("", "")

    def note_last(self, said_as: str) -> None:
        """Take note of what was said last, by its event id or its id on the network."""
        self._last = said_as

    def links_of(self, event: dict[str, Any], said: Said, *, words: bool) -> list[Crossing]:
        """As what the event is remembered once it is said; ``words``: in plain text."""
        own = EventId(event["event_id"])
        if words or isinstance(said, Message):
            self.note_last(own)
        match said:
            case Message():
                return [(own, LinkKind.MESSAGE)]
            case Edit():
                target = EventId(_annotated(event))
                if not self._is_taken_back(own):
                    self._edited.put(own, target)
                    self._remember(target, said.body)
                corrects = [(target, LinkKind.CORRECTION)] if words else []
                return [*corrects, (own, LinkKind.EDIT)]
            case Reaction():
                return [(own, LinkKind.REACTION)]
            case Redaction():
                return [(own, LinkKind.REDACTION)]

    def forget(self, event_id: str) -> None:
        """Quote no more what an event said that was taken back; called as soon as that is known,
        even while the event is on its way."""
        excerpts, portal = self._house.excerpts, self._portal.id
        excerpts.put((portal, event_id), _TAKEN_BACK)
        target = self._edited.get(event_id)
        if target is not None and not self._is_taken_back(target):
            excerpts.drop((portal, target))

    def _is_taken_back(self, event_id: str) -> bool:
        return self._house.excerpts.get((self._portal.id, event_id)) == _TAKEN_BACK

    def _remember(self, event_id: str, body: Rich) -> None:
        if not self._is_taken_back(event_id):
            self._house.excerpts.put((self._portal.id, event_id), _texts(body, _REMEMBERED))

    async def links(self, event_id: str) -> Sequence[MessageLink]:
        """What the event is on the network; empty if it did not cross, or long ago."""
        if not event_id.isprintable():
            return []  # No event has such an id, and the database cannot even be asked.
        house, portal = self._house, self._portal.id
        pending = house.crossings.pending(portal, event_id)
        ours = house.sender.unwritten.of_event(portal, event_id)
        written = await house.store.find_message(portal, EventId(event_id))
        return list(dict.fromkeys([*written, *pending])) or ours


def _texts(body: Rich, most: int | None = None) -> tuple[str, str]:
    """So many characters of it in plain text, or all, without and with its spoilers."""
    shown = to_plain(body)[:most]
    return (shown if is_bare(body.nodes) else open_text(body)[:most]), shown


def _remote_ids(links: Sequence[MessageLink]) -> tuple[RemoteMessageId, ...]:
    return tuple(RemoteMessageId(one.remote_id) for one in links if one.remote_id)


def _relation(event: dict[str, Any]) -> dict[str, Any]:
    """How an event is about another one; empty if it is about none."""
    relates = event["content"].get("m.relates_to")
    return relates if isinstance(relates, dict) else {}


def _annotated(event: dict[str, Any]) -> str:
    """Which event an edit or a reaction is about; checked when it was read."""
    return str(event["content"]["m.relates_to"]["event_id"])
