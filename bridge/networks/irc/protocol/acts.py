"""What is done to messages, by client tags and ``REDACT``: lines both ways. Pure."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.wire import Incoming, Line, cut, line
from bridge.sdk.events import RemoteReaction, RemoteRedaction, RemoteTyping, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteMessageId

TAGS = "message-tags"
"""With this a server takes tags of clients, and passes them on."""
REDACTION = "draft/message-redaction"
TYPING = "+typing"
REPLY, REACT, UNREACT = "+draft/reply", "+draft/react", "+draft/unreact"
_REPLIES, _REACTS, _UNREACTS = (REPLY, "+reply"), (REACT, "+react"), (UNREACT, "+unreact")
"""Under their names in the drafts, and those that they will have."""
MOST_ID_BYTES = 200
MOST_REASON_BYTES = 200
TYPING_SECONDS = 6.0
"""How long somebody is taken to write who is said to (client tag ``typing``)."""
_MADE_UP = re.compile(r"[0-9a-f]{16}-\d+\Z|[hr]-[0-9a-f]{32}\Z")
"""Ids that we gave where the network had none: see ``Network``, ``history`` and below."""


def is_of_network(message_id: str) -> bool:
    """Whether a message's id is one by which the network knows it."""
    size = len(message_id.encode())
    return 0 < size <= MOST_ID_BYTES and not _MADE_UP.match(message_id)


def answering(first: Line, message_id: str) -> Line:
    """Mark a message's first line as the answer to another, where that has an id of the network's.

    Clients that know the tag show what is answered; for all others the text says it.
    """
    return first.tagged(**{REPLY: message_id}) if is_of_network(message_id) else first


def without_client_tags(one: Line) -> Line:
    """Return a line that says the same to a server that takes no tags of clients."""
    if not one.tags or one.command == "TAGMSG":
        return one  # The latter says nothing else: let the server refuse it.
    kept = tuple(tag for tag in one.tags if not tag[0].startswith("+"))
    return one if kept == one.tags else replace(one, tags=kept)


def reacting(channel: str, message_id: str, key: str) -> Line:
    """Make a reaction to a message that the network knows (client tag ``draft/react``)."""
    return line("TAGMSG", channel).tagged(**{REPLY: message_id, REACT: key})


def unreacting(channel: str, message_id: str, key: str) -> Line:
    """Take back one's own reaction to a message (client tag ``draft/unreact``)."""
    return line("TAGMSG", channel).tagged(**{REPLY: message_id, UNREACT: key})


def redacting(channel: str, message_ids: Sequence[str], reason: str) -> list[Line]:
    """Take back messages that the network knows (``draft/message-redaction``)."""
    said = cut(" ".join(reason.split()), MOST_REASON_BYTES)
    return [
        line("REDACT", channel, one, said) if said else line("REDACT", channel, one)
        for one in message_ids
    ]


def typing(channel: str, state: str) -> Line:
    """Say that somebody writes: ``active`` or ``done`` (client tag ``typing``)."""
    return line("TAGMSG", channel).tagged(**{TYPING: state})


def is_typing(message: Incoming) -> bool:
    """Whether a line says that somebody writes, or ceased to."""
    return message.command == "TAGMSG" and TYPING in message.tags


def read_typing(message: Incoming, chat: RemoteChatId, user: RemoteUser) -> RemoteTyping:
    """Read whether somebody writes. One who pauses is not shown: nobody should wait for a message
    that may not come."""
    return RemoteTyping(
        chat=chat, user=user, is_typing=message.tags[TYPING] == "active", seconds=TYPING_SECONDS
    )


def read_act(
    message: Incoming,
    chat: RemoteChatId,
    sender: RemoteUser,
    id_of: Callable[[Incoming], RemoteMessageId],
) -> RemoteReaction | RemoteRedaction | None:
    """Read what somebody does to a message; None if it is nothing of the kind.

    ``id_of``: gives the line's own id, by which it is done once.
    """
    if message.command == "REDACT":
        return _read_redaction(message, chat, sender)
    if not message.tags:
        return None
    if (reaction := read_reaction(message)) is not None:
        target, key = reaction[0], strip_codes(reaction[1])
        return RemoteReaction(
            chat=chat, id=id_of(message), target=RemoteMessageId(target), sender=sender, key=key,
            alias=made_up_reaction_id(target, sender.id, key),
        )  # fmt: skip
    if (taken_back := read_unreaction(message)) is not None:
        target, key = taken_back[0], strip_codes(taken_back[1])
        alias = made_up_reaction_id(target, sender.id, key)
        return RemoteRedaction(chat=chat, target=alias, sender=sender, id=id_of(message))
    return None


def _read_redaction(
    message: Incoming, chat: RemoteChatId, sender: RemoteUser
) -> RemoteRedaction | None:
    target, reason = message.param(1), strip_codes(message.param(2))
    if not is_of_network(target):
        return None
    return RemoteRedaction(chat=chat, target=RemoteMessageId(target), sender=sender, reason=reason)


def read_answered(message: Incoming) -> str | None:
    """Read which message a line answers or reacts to; None if none."""
    found = _said_in(message, _REPLIES)
    return found if found and is_of_network(found) else None


def read_reaction(message: Incoming) -> tuple[str, str] | None:
    """Read which message a line reacts to, and how; None if it does not.

    One that says more than that is a message.
    """
    return _read_tagged(message, _REACTS, without=_UNREACTS)


def read_unreaction(message: Incoming) -> tuple[str, str] | None:
    """Read to which message a line takes back a reaction, and which; None if it does not."""
    return _read_tagged(message, _UNREACTS, without=_REACTS)


def _read_tagged(
    message: Incoming, names: Sequence[str], *, without: Sequence[str]
) -> tuple[str, str] | None:
    key = _said_in(message, names)
    if not key.strip() or _said_in(message, without):
        return None  # Both at once mean nothing.
    target, said = read_answered(message), message.param(1)
    if target is None or (said.strip() and said.strip() != key):
        return None
    return target, key


def _said_in(message: Incoming, tags: Sequence[str]) -> str:
    """What the first of the tags says that says anything."""
    return next(filter(None, map(message.tags.get, tags)), "")


def made_up_reaction_id(target: str, nick: str, key: str) -> RemoteMessageId:
    """Return an id for a reaction by what ``unreact`` names: the same each time, over restarts."""
    made_up = hashlib.sha256("\0".join((target, nick, key)).encode("utf-8", "replace"))
    return RemoteMessageId(f"r-{made_up.hexdigest()[:32]}")
