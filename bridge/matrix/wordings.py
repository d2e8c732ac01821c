"""Polls and places of Matrix in words: networks have no other means for them."""

from collections.abc import Mapping
from typing import Any

from bridge.matrix.htmltree import clean

POLLS = frozenset({"m.poll.start", "org.matrix.msc3381.poll.start"})
"""What begins a poll, as specified and as clients still send it (MSC3381)."""
_MOST_ANSWERS = 20
"""As the specification has it."""
_LONGEST = 2000
"""Characters of a question, of an answer or of a place's description."""


def wording(event: Mapping[str, Any]) -> str:
    """What a poll asks, or where a place is; empty for anything else."""
    content = event["content"]
    if event["type"] in POLLS:
        return _poll(content.get("m.poll", content.get("org.matrix.msc3381.poll.start")))
    if content.get("msgtype") == "m.location":
        body, where = _short(content.get("body")), _short(content.get("geo_uri"))
        return body if where in body else f"{body} ({where})".strip()
    return ""


def _poll(poll: object) -> str:
    if not isinstance(poll, dict):
        return ""
    answers = poll.get("answers")
    texts = map(_text, answers[:_MOST_ANSWERS]) if isinstance(answers, list) else ()
    asked = [f"({number}) {text}" for number, text in enumerate(filter(None, texts), 1)]
    question = _text(poll.get("question"))
    return " ".join(["Poll:", question, *asked]) if question else ""


def _text(block: object) -> str:
    """The plain text of a question or an answer, in whatever form a client writes it."""
    if not isinstance(block, dict):
        return ""
    found = block.get("m.text", block.get("org.matrix.msc1767.text", block.get("body")))
    if isinstance(found, list):
        # Several representations of one text; one without a type is plain.
        plain = (one for one in found if isinstance(one, dict)
                 and one.get("mimetype", "text/plain") == "text/plain")  # fmt: skip
        found = next(plain, {}).get("body")
    return _short(found)


def _short(text: object) -> str:
    return " ".join(clean(text[:_LONGEST]).split()) if isinstance(text, str) else ""
