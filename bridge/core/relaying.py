"""How somebody is called for whom a relay speaks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.matrix.html import parse
from bridge.matrix.profiles import find_name, without_fallback
from bridge.nameformat import write_name
from bridge.sdk.events import Message
from bridge.sdk.rich import Rich


def as_relayed(message: Message, content: Mapping[str, Any], name_format: str) -> Message:
    """The message as a relay says it: with its sender's name as the format has it.

    Where the sender gave another name for this message (MSC4144), it is that one.
    """
    new = content.get("m.new_content")
    content = new if isinstance(new, dict) else content
    sender = message.sender
    name = find_name(content)
    if name:
        message = replace(message, body=_without_name(message.body, content))
    called = write_name(name_format, sender.user_id, name or sender.name)
    return replace(message, relayed=True, sender=replace(sender, name=called))


def _without_name(body: Rich, content: Mapping[str, Any]) -> Rich:
    whole, rest = parse(content).nodes, parse(without_fallback(content)).nodes
    before = body.nodes[: len(body.nodes) - len(whole)]
    # What stands before it (whom it answers, that it is an edit) was put there by us.
    return Rich((*before, *rest)) if rest and (*before, *whole) == body.nodes else body
