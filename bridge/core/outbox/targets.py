"""What an entry of the outbox is about: from a message of the network to the events in the room.

Looked up when the entry's turn has come, since what it answers, changes or takes back may have
waited in the same outbox.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from bridge.model import LinkKind, MessageLink, Outgoing, SendKind
from bridge.sdk.ids import UserId

NEW = "m.new_content"
_SAID = (LinkKind.MESSAGE, LinkKind.CORRECTION, LinkKind.EDIT)
"""What can be answered; a message itself before what changed it."""


def aim(
    outgoing: Outgoing, links: Sequence[MessageLink], ours: Sequence[UserId]
) -> list[Outgoing]:
    """What is to be done in the room, in order; nothing if what it is about is not known.

    ``links`` are what the remote message is, the oldest first, ``ours`` those of their senders
    whom we may act as. No event is about one of another room: of a message that is not known, or
    in a room that the portal has left, an answer and a change are said by themselves, and
    nothing becomes of a reaction. What takes it back is done there.
    """
    here = [link for link in links if link.room == outgoing.room]
    said = [link for kind in _SAID for link in here if link.kind is kind]
    if outgoing.kind is SendKind.REDACT:
        return _redactions(outgoing, links, ours)
    if outgoing.link is LinkKind.REACTION:
        if not said:
            return []
        relation = {"rel_type": "m.annotation", "event_id": said[0].event_id}
        return [_related(outgoing, relation | outgoing.content["m.relates_to"])]
    if not said:
        content = {name: value for name, value in outgoing.content.items() if name != NEW}
        # By itself it is found by what it changed, too: who takes that back means both.
        changed = outgoing.about if outgoing.link is LinkKind.EDIT else ""
        return [
            replace(
                outgoing, content=content | outgoing.content.get(NEW, {}),
                alias=outgoing.alias or changed,
            )
        ]  # fmt: skip
    if outgoing.link is LinkKind.EDIT:
        relation = {"rel_type": "m.replace", "event_id": said[0].event_id}
        return [_related(outgoing, relation)]
    return [_related(outgoing, {"m.in_reply_to": {"event_id": said[0].event_id}})]


def wordless(outgoing: Outgoing) -> Outgoing:
    """The same without the reason, which is somebody's words."""
    content = {name: value for name, value in outgoing.content.items() if name != "reason"}
    return replace(outgoing, content=content)


def _related(outgoing: Outgoing, relation: dict[str, Any]) -> Outgoing:
    return replace(outgoing, content=outgoing.content | {"m.relates_to": relation})


def _redactions(
    one: Outgoing, links: Sequence[MessageLink], ours: Sequence[UserId]
) -> list[Outgoing]:
    """Whoever said it takes it back, which needs no power; else the bot tries.

    Of reactions that go by one name the newest is there, and those before it were taken back. In
    a room that the portal has left the bot does it: the ghosts are gone, and may not even take
    back there what they said, since a replaced room is closed to all without power. That is the
    portal's no more, and who reads there is not asked.
    """
    reactions = [link for link in links if link.kind is LinkKind.REACTION]
    found: dict[str, MessageLink] = {}
    for link in (*(link for link in links if link not in reactions), *reactions[-1:]):
        if link.kind is not LinkKind.REDACTION:
            found.setdefault(link.event_id, link)
    return [
        replace(
            # The other room's has its own lane, and is put again with each try of this one's.
            one if link.room == one.room else replace(wordless(one), portal=None, replayed=True),
            room=link.room,
            target=link.event_id,
            user=link.sender if link.room == one.room and link.sender in ours else one.user,
            name="",
            about="",
            # Not by its place: in the next try more may be found.
            transaction_id=f"{one.transaction_id}."
            + blake2b(link.event_id.encode(), digest_size=8).hexdigest(),
        )
        for link in found.values()
    ]
