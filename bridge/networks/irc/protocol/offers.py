"""What a server offers (IRCv3 capabilities), what we want of it, and what we have got.

A pure state: lines in, lines out. It serves the sign-in and, with ``cap-notify``, the time after.
"""

from collections.abc import Iterable

from bridge.networks.irc.wire import Incoming, Line, line

WANTED = frozenset({
    "account-notify", "account-tag", "away-notify", "batch", "cap-notify", "chghost",
    "draft/channel-rename", "draft/chathistory", "draft/event-playback",
    "draft/message-redaction", "draft/multiline", "draft/extended-monitor", "draft/relaymsg",
    "echo-message", "extended-join", "extended-monitor", "invite-notify", "labeled-response",
    "message-tags", "multi-prefix", "server-time", "setname", "standard-replies",
    "userhost-in-names",
})  # fmt: skip
_USEFUL = WANTED | {"sasl"}
_NEEDS = {
    "draft/message-redaction": "message-tags",
    "labeled-response": "batch",
    "draft/multiline": "batch",
    "draft/chathistory": "batch",
    "draft/event-playback": "draft/chathistory",
}
"""A capability that means nothing without the other."""
MOST_BYTES = 200
"""Names in one request: the line must fit."""


class Offers:
    """The capabilities of one connection."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        """What is offered and of use, with its value."""
        self.held: frozenset[str] = frozenset()
        """What we were given, and can use: with what it needs."""
        self._given: frozenset[str] = frozenset()
        """The same, with or without what it needs."""
        self._asked_apart: set[str] = set()

    def learn(self, words: str) -> None:
        """Take note of what is offered (``CAP LS``, ``CAP NEW``), as far as it is of any use."""
        for word in words.split():
            name, _, value = word.partition("=")
            if name.lower() in _USEFUL:
                self.values[name.lower()] = value

    def wish(self, extra: Iterable[str] = ()) -> list[Line]:
        """Return the requests for what is offered, wanted and not held yet."""
        wanted = ((WANTED & self.values.keys()) | set(extra)) - self.held
        names = [
            name for name in sorted(wanted)
            if _NEEDS.get(name) is None or _NEEDS[name] in self.values
        ]  # fmt: skip
        requests, row = [], ""
        for name in names:
            if row and len(row) + len(name) >= MOST_BYTES:
                requests.append(line("CAP", "REQ", row))
                row = ""
            row = f"{row} {name}".strip()
        return [*requests, line("CAP", "REQ", row)] if row else requests

    def ask_apart(self, refused: str) -> list[Line]:
        """Return requests for each name of one that was refused; none where it was one name.

        A server that does not take one of them takes none. None is asked for so twice, whatever
        the server repeats, until something new is offered.
        """
        names = list(dict.fromkeys(one for one in refused.lower().split() if one in self.values))
        apart = [one for one in names if one not in self._asked_apart] if len(names) > 1 else []
        self._asked_apart.update(apart)
        return [line("CAP", "REQ", name) for name in apart]

    def take(self, words: str) -> None:
        """Take note of what was given, or with a hyphen taken back (``CAP ACK``)."""
        given = self._given
        for word in words.lower().split():
            name = word.lstrip("-~=").partition("=")[0]
            named = {name} & _USEFUL
            given = given - named if word.startswith("-") else given | named
        self._hold(given)

    def _hold(self, given: frozenset[str]) -> None:
        """Hold of what was given what has what it needs: that may come later, or be refused."""
        self._given = self.held = given
        while lone := {one for one in self.held if _NEEDS.get(one, one) not in self.held}:
            self.held -= lone

    def follow(self, message: Incoming) -> list[Line]:
        """Follow one ``CAP`` line after the sign-in; return what to say."""
        match message.param(1).upper():
            case "NEW":
                self.learn(message.param(-1))
                self._asked_apart.clear()
                return self.wish()
            case "DEL":
                gone = {word.partition("=")[0] for word in message.param(-1).lower().split()}
                for name in gone:
                    self.values.pop(name, None)
                self._hold(self._given - gone)
            case "ACK":
                self.take(message.param(-1))
            case "NAK":
                return self.ask_apart(message.param(-1))
        return []
