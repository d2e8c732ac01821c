"""Per-message profiles (MSC4144): one account that speaks for several people.

Clients that know them show the name; for the others it stands before the text.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bridge.matrix.htmltree import clean

_KEYS = ("m.per_message_profile", "com.beeper.per_message_profile")
"""Its name, and the one it has until it is part of the specification."""
_WRITTEN = _KEYS[1]
_MOST_BYTES = 255
"""Of its id and name: MSC4144, "Field limits"."""
_FALLBACK = re.compile(
    r"<strong\b[^<>]{0,200}\bdata-mx-profile-fallback\b[^<>]{0,200}>[^<>]{0,4000}</strong>"
)


def find_name(content: Mapping[str, Any]) -> str:
    """The name that a message was said by, if its sender gave another for it; else empty."""
    name = _profile(content).get("displayname")
    if not isinstance(name, str) or len(name.encode("utf-8", "replace")) > _MOST_BYTES:
        return ""
    return " ".join(clean(name).split())


def find_avatar(content: Mapping[str, Any]) -> str:
    """The picture (``mxc://``) that goes with that name, empty if none was given."""
    avatar = _profile(content).get("avatar_url")
    return avatar if isinstance(avatar, str) else ""


def without_fallback(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content without the name that stands before the text for clients that know no better."""
    found = _profile(content)
    if found.get("has_fallback") is not True:
        return content
    left = dict(content)
    formatted, body = content.get("formatted_body"), content.get("body")
    if isinstance(formatted, str):
        left["formatted_body"] = _FALLBACK.sub("", formatted, count=1)
    if isinstance(body, str):
        left["body"] = body.removeprefix(f"{found.get('displayname')}: ")
    return left


def say_as(contents: Sequence[dict[str, Any]], identity: str, name: str) -> None:
    """Have the contents of one message said by that name; ``identity`` tells two of a name apart.

    Each piece carries it, and the first has it before its text, too.
    """
    shown = _cut(" ".join(clean(name).split()) or "?")
    for number, content in enumerate(contents):
        profile: dict[str, Any] = {"id": _cut(clean(identity)) or "?", "displayname": shown}
        content[_WRITTEN] = profile
        if number:
            continue
        profile["has_fallback"] = True
        body = content["body"]
        formatted = content.get("formatted_body") or escape(body).replace("\n", "<br>")
        content["body"] = f"{shown}: {body}"
        content["format"] = "org.matrix.custom.html"
        content["formatted_body"] = (
            f"<strong data-mx-profile-fallback>{escape(shown)}: </strong>{formatted}"
        )


def _profile(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The profile under the first of its names; empty if there is none."""
    for key in _KEYS:
        found = content.get(key)
        if isinstance(found, dict):
            return found
    return {}


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:_MOST_BYTES].decode("utf-8", "ignore")
