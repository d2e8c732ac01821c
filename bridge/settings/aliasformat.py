"""The Matrix aliases of an instance's chats: a text with a place for the chat.

What an alias can hold stands in it as it is, so that people can type it, as in
``#irc_libera_#channel``. What it cannot hold (Matrix specification, appendix 4.2.3: no colon, no
NUL; homeservers refuse white space) is written ``=xx`` (hexadecimal, each byte of its UTF-8).
"""

import re
from dataclasses import dataclass

from bridge.sdk.ids import InstanceId

_CHAT = "{chat}"
_NETWORK = "{network}"
_LONGEST = 100
_CODE = re.compile(r"=([0-9a-f]{2})")
_ODD = re.compile(r"[:\s\x00-\x1f\x7f-\x9f\ud800-\udfff]|=(?=[0-9a-f]{2})")
"""What is escaped; an equals sign only where it would be taken for an escape."""


def check_template(text: str) -> str:
    """Give it back if it is a template of aliases; else raise ``ValueError`` with a sentence."""
    plain = text.replace(_NETWORK, "")
    if plain.count(_CHAT) != 1:
        raise ValueError("it must hold {chat} exactly once")
    literal = plain.replace(_CHAT, "")
    if "{" in literal or "}" in literal:
        raise ValueError("only {network} and {chat} may stand in braces")
    if not text.startswith("#") or text.startswith("#" + _CHAT):
        raise ValueError(
            "it begins with # and some characters of its own, for example `#irc_{chat}`"
        )
    if len(text) > _LONGEST or not text.isprintable() or ":" in text or " " in text:
        raise ValueError(f"it may have at most {_LONGEST} characters, and no spaces or colons")
    return text


@dataclass(frozen=True, slots=True)
class AliasTemplate:
    """A template for one instance: what stands before the chat, and what after it."""

    head: str
    """With the ``#``."""
    tail: str

    @classmethod
    def of(cls, text: str, instance: InstanceId) -> "AliasTemplate":
        """Make it of a template that was checked."""
        head, _, tail = text.replace(_NETWORK, instance).partition(_CHAT)
        return cls(head, tail)

    def spell(self, chat: str) -> str:
        """The alias of a chat, without the server."""
        return self.head + _ODD.sub(_escape, chat) + self.tail

    def read(self, alias: str) -> str | None:
        """The chat of an alias without the server; None if it is not spelled like that."""
        if len(alias) <= len(self.head) + len(self.tail):
            return None
        if not (alias.startswith(self.head) and alias.endswith(self.tail)):
            return None
        inner = alias[len(self.head) : len(alias) - len(self.tail)]
        data = b"".join(
            bytes.fromhex(piece) if number % 2 else piece.encode("utf-8", "surrogatepass")
            for number, piece in enumerate(_CODE.split(inner))
        )
        try:
            chat = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None
        # Only the one spelling that we write is ours; any other would be a second alias.
        return chat if self.spell(chat) == alias else None

    def clashes(self, other: "AliasTemplate") -> bool:
        """Whether an alias could be of both."""
        heads = self.head.startswith(other.head) or other.head.startswith(self.head)
        tails = self.tail.endswith(other.tail) or other.tail.endswith(self.tail)
        return heads and tails


def _escape(found: re.Match[str]) -> str:
    return "".join(f"={byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass"))
