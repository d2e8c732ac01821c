"""Long answers of a server, made short: channels, who somebody is, who is there."""

import fnmatch
import heapq
import re
from collections.abc import Callable, Sequence

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.network.people import Person
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Incoming, Line, cut, line

_MODES = re.compile(r"^\[\+[^\]]*\] ?")
"""What some servers put before each topic."""
MOST_CHANNELS = 20
MOST_NAMES = 100
MOST_DETAILED = 20
MOST_WORD_BYTES = 150
MOST_WHOIS_CHANNELS = 30


class Listing:
    """The largest of the channels that a server lists; of the others only their number is kept."""

    def __init__(self, pattern: str, limits: Isupport, nick: str) -> None:
        """``pattern``: a name with ``*`` and ``?``, or a part of one; empty: all channels.
        ``nick``: who asks."""
        self._pattern = limits.fold(pattern)
        self._limits = limits
        self._nick = limits.fold(nick)
        self._largest: list[tuple[int, str, str]] = []
        self.said = ""
        """By the server itself before the list: mostly why it shows none, or a made-up one."""
        self._is_begun = False
        self.number = 0

    def question(self) -> Line:
        """Make what the server is asked. It may tell of more than fits: that is left out here."""
        pattern, limits = self._pattern, self._limits
        is_name = limits.is_channel(pattern) and not self._has_wildcards
        takes_patterns = "M" in limits.tokens.get("ELIST", "").upper()
        if not pattern or not (is_name or takes_patterns):
            return line("LIST")
        # A server takes what has no wildcards for the whole name.
        return line("LIST", pattern if is_name or self._has_wildcards else f"*{pattern}*")

    def hear(self, message: Incoming) -> None:
        """Take one channel of the list, or a word of the server's about it."""
        if message.command == "NOTICE":
            is_servers = message.source is None or not message.source.is_person
            # To a channel, or to everybody, it is about something else.
            is_for_us = self._limits.fold(message.param(0)) == self._nick
            if is_servers and is_for_us and not self._is_begun:
                self.said = cut(strip_codes(message.param(-1)), 2 * MOST_WORD_BYTES)
            return
        self._is_begun = True
        name, members, topic = message.param(1), message.param(2), message.param(3)
        if not self._fits(name):
            return
        self.number += 1
        count = int(members[:9]) if members.isascii() and members.isdecimal() else 0
        shown = _MODES.sub("", strip_codes(topic))
        entry = (count, name, cut(shown, MOST_WORD_BYTES))
        if len(self._largest) < MOST_CHANNELS:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heappushpop(self._largest, entry)

    @property
    def _has_wildcards(self) -> bool:
        return not set(self._pattern).isdisjoint("*?")

    def _fits(self, name: str) -> bool:
        folded = self._limits.fold(name)
        if self._has_wildcards:
            # Square brackets are letters of names here, not sets of letters.
            return fnmatch.fnmatchcase(folded, self._pattern.replace("[", "[[]"))
        return self._pattern in folded

    def show(self) -> str:
        """Say it, the largest first."""
        if not self.number:
            if self.said:
                return f"No such channel was listed. The server says: {self.said}"
            return "There is no such channel that you could see."
        lines = [
            f"{strip_codes(name)} ({count})" + (f": {topic}" if topic else "")
            for count, name, topic in sorted(self._largest, key=lambda one: (-one[0], one[1]))
        ]
        if self.number > len(lines):
            lines.append(f"and {self.number - len(lines)} smaller ones; a pattern finds them")
        if self.said:
            lines.append(f"The server says: {self.said}")
        return "\n".join(lines)


def read_whois(nick: str, lines: Sequence[Incoming], fold: Callable[[str], str]) -> str:
    """Say who somebody is, by the replies to a ``WHOIS``."""
    found: dict[str, Incoming] = {}
    lines = [one for one in lines if fold(one.param(1)) == fold(nick)]
    for one in lines:
        found.setdefault(one.command, one)
    who = found.get(replies.WHOIS_USER)
    if who is None:
        return f"There is nobody called {nick}."
    said = [
        f"{who.param(1)} is {who.param(-1)} ({who.param(2)}@{who.param(3)})",
        *_of(found, "330", lambda one: f"account {one.param(2)}"),
        *_of(found, "307", lambda one: "a registered nick"),
        *_of(found, "301", lambda one: f"away: {one.param(-1)}"),
        *_of(found, "312", lambda one: f"on {one.param(2)}"),
        *_of(found, "313", lambda one: "an operator of the network"),
        *_of(found, "335", lambda one: "a program"),
        *_of(found, "671", lambda one: "encrypted"),
        *_of(found, "317", lambda one: f"silent for {_duration(one.param(2))}"),
    ]
    listed = " ".join(one.param(-1) for one in lines if one.command == "319")
    channels = strip_codes(listed).split()  # Before it is split: some codes count as a space.
    if channels:
        more = f" and {len(channels) - MOST_WHOIS_CHANNELS} more"
        shown = ", ".join(channels[:MOST_WHOIS_CHANNELS])
        said.append(f"in {shown}" + more * (len(channels) > MOST_WHOIS_CHANNELS))
    return "; ".join(cut(strip_codes(one), 2 * MOST_WORD_BYTES) for one in said) + "."


def _of(found: dict[str, Incoming], code: str, say: Callable[[Incoming], str]) -> Sequence[str]:
    return [say(found[code])] if code in found else []


def _duration(text: str) -> str:
    seconds = int(text[:9]) if text.isascii() and text.isdecimal() else 0
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} second" + "s" * (seconds != 1)


def _with_rank(word: str, signs: str) -> str:
    """The nick with the highest of its signs alone."""
    nick = word.lstrip(signs)
    return word[: 1 if len(nick) < len(word) else 0] + nick


def show_names(
    channel: str, listed: Sequence[str], signs: str, find: Callable[[str], Person | None]
) -> str:
    """Say who is in a channel, as it is listed: those with a rank first. ``find`` gives what is
    known of a nick.

    Of few people all of it is said, of more who is away.
    """
    names = [_with_rank(word.partition("!")[0], signs) for word in listed]
    ranks = {sign: rank for rank, sign in enumerate(signs)}
    names.sort(key=lambda name: (ranks.get(name[:1], len(signs)), name.lower()))
    known = [(name, find(name.lstrip(signs))) for name in names]
    if len(names) <= MOST_DETAILED:
        return "\n".join((f"{len(names)} in {channel}:", *(_describe(*one) for one in known)))
    shown = ", ".join(names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    away = [name.lstrip(signs) for name, person in known if person and person.away]
    others = f" and {len(away) - MOST_NAMES} more" if len(away) > MOST_NAMES else ""
    last = f"\nAway: {', '.join(away[:MOST_NAMES])}{others}" if away else ""
    return f"{len(names)} in {channel}: {shown}{more}{last}"


def _describe(name: str, person: Person | None) -> str:
    if person is None:
        return name
    facts = [
        strip_codes(person.realname or ""),
        f"account {person.account}" if person.account else "",
        f"away: {strip_codes(person.away)}" if person.away else "",
    ]
    said = "; ".join(cut(fact, MOST_WORD_BYTES) for fact in facts if fact)
    return f"{name} ({said})" if said else name
