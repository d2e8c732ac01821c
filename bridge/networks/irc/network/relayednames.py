"""The names by which one connection speaks for people: `<name> text`."""

from collections.abc import Callable, Sequence

from bridge.sdk.ids import RemoteChatId, UserId
from bridge.sdk.rich import Mention

SIGN = "\u200b"
"""Shows nothing, and makes a name another word to a client that looks for its owner's nick. Other
bridges use the same."""
_MOST = 200
"""People of one channel who are known by such a name: those who spoke last."""

_LONGEST = 200
"""Characters of a line's start that are looked at for one; more than any such name has."""


class RelayedNames:
    """Who spoke in a channel by which name, so that they can be called by it there."""

    def __init__(self, fold: Callable[[str], str]) -> None:
        """``fold`` keeps nothing of what it maps: most of it is people's talk."""
        self._fold = fold
        self._known: dict[RemoteChatId, dict[str, Mention]] = {}

    def spoke(self, chat: RemoteChatId, user: UserId, name: str) -> None:
        """Take note that somebody spoke by a name, without the sign."""
        known, key = self._known.setdefault(chat, {}), self._fold(name)
        known.pop(key, None)  # Whoever spoke last comes last.
        known[key] = Mention(user, name)
        if len(known) > _MOST:
            del known[next(iter(known))]

    def find(self, chat: RemoteChatId, word: str) -> Mention | None:
        """Who is meant by a name, with the sign in it or without."""
        known = self._known.get(chat)
        return known.get(self._key(word)) if known else None

    def called(self, chat: RemoteChatId, said: str) -> tuple[Mention, int] | None:
        """Who is called at the start of what is said by a name of several words, spelled exactly
        and before ``:`` or ``,``; and where the name ends. No word alone would find it."""
        if not (known := self._known.get(chat)):
            return None
        for sign in ":,":
            name = said[: max(said.find(sign, 0, _LONGEST), 0)]
            found = known.get(self._key(name)) if " " in name else None
            if found is not None and found.name == name.replace(SIGN, ""):
                return found, len(name)
        return None

    def has_any(self, chat: RemoteChatId, words: Sequence[str]) -> bool:
        """Whether any of the words, none with a space, is such a name."""
        if not (known := self._known.get(chat)):
            return False
        return not known.keys().isdisjoint(self._key(" ".join(words)).split(" "))

    def _key(self, words: str) -> str:
        return self._fold(words.replace(SIGN, ""))

    def forget(self, person: UserId) -> None:
        """Know nothing of somebody any more."""
        for known in self._known.values():
            for key in [key for key, one in known.items() if one.user == person]:
                del known[key]

    def forget_chat(self, chat: RemoteChatId) -> None:
        """Know nobody in a channel any more."""
        self._known.pop(chat, None)
