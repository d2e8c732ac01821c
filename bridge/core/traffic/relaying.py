"""What those are called for whom a relay speaks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from bridge.core.traffic.departures import Said
from bridge.matrix.html import parse
from bridge.matrix.profiles import find_name, without_fallback
from bridge.sdk.events import Edit, Message
from bridge.sdk.rich import Rich
from bridge.settings.nameformat import write_name

Told = TypeVar("Told", bound=Said)


def as_relayed(
    said: Told,
    content: Mapping[str, Any],
    name_format: str,
    *,
    avatar: str | None = None,
    read: Callable[[Mapping[str, Any]], Rich] = parse,
) -> Told:
    """What was said as a relay says it: with its sender's name as the format has it.

    Where the sender gave another name for this message (MSC4144), it is that one. ``read`` makes
    the text of a content, as the message's was made.
    """
    new = content.get("m.new_content")
    content = new if isinstance(new, dict) else content
    sender = said.sender
    name = find_name(content)
    if name and isinstance(said, Message | Edit):
        said = replace(said, body=_without_name(said.body, content, read))
    called = write_name(name_format, sender.user_id, name or sender.name)
    return replace(said, relayed=True, sender=replace(sender, name=called, avatar=avatar))


def _without_name(
    body: Rich, content: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Rich]
) -> Rich:
    whole, rest = read(content).nodes, read(without_fallback(content)).nodes
    before = body.nodes[: len(body.nodes) - len(whole)]
    # What stands before it (whom it answers, that it is an edit) was put there by us.
    return Rich((*before, *rest)) if rest and (*before, *whole) == body.nodes else body
