"""Matrix user -> nick: named after the user, valid on the network, one owner each.

What a user was given is kept in the instance's store and stays, so that people on IRC know
who is who; on a server that takes only shorter nicks it is cut while they are there. Two users
never own the same nick (compared as the network compares), and a user owns one. When a stranger
holds it, the user goes by the next candidate until it is free.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from itertools import chain, count

from bridge.networks.irc.protocol.isupport import Isupport
from bridge.sdk.errors import ModuleNotReady, PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.module import Store

STORE_PREFIX = "nick:"
RESERVED_PREFIX = "login nicks:"
MOST_RESERVED = 5
"""Nicks of logins that are kept for one user, the newest ones."""
SHORTEST_LIMIT = 9
"""RFC 1459's limit: what every server takes, before it has told its own."""

NAME = "{name}"
"""Stands for the user's name in what nicks are made like (``"{name}[m]"``)."""
MOST_AROUND = 6
"""Characters beside the name: a short nick must have room for both."""
_LEAST_NAME = 2

_FIRST = r"A-Za-z\[\]\\`_^{|}"
_NICK = re.compile(rf"[{_FIRST}][{_FIRST}0-9-]*\Z")
NICK_RULE = r"letters, digits and []\`_^{|}-, no digit or hyphen first"
_NOT_NICK = re.compile(rf"[^{_FIRST}0-9-]+")
_NOT_USER = re.compile(r"[^A-Za-z0-9_-]+")
_NOBODY = UserId("")
_UNKNOWN: tuple[tuple[str, int], dict[str, UserId]] = (("", 0), {})
# Letters that have no decomposition but a usual spelling.
_SPELLED = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "ł": "l", "Ł": "L"})


def is_nick(text: str) -> bool:
    """Whether every server takes the text as a nick, its length aside."""
    return _NICK.match(text) is not None


def localpart(user: UserId) -> str:
    """Return what stands between ``@`` and the first ``:``."""
    return user.removeprefix("@").partition(":")[0]


def base_of(user: UserId, name: str) -> str:
    """Make a nick of the display name, else of the user id, in ASCII, of any length."""
    for text in (name, localpart(user)):
        spelled = unicodedata.normalize("NFKD", text.translate(_SPELLED))
        letters = "".join(mark for mark in spelled if not unicodedata.combining(mark))
        nick = _NOT_NICK.sub("_", letters).strip("_") or ""
        if nick[:1] in set("0123456789-"):
            nick = f"_{nick}"
        if len(nick) >= 2 and any(character.isalnum() for character in nick):
            return nick
    return "matrix"


def named_after(user: UserId, name: str, form: str) -> str:
    """Make a nick of a user's name that is like ``form``, of any length."""
    return form.replace(NAME, base_of(user, name))


def is_form(text: str) -> bool:
    """Whether nicks can be made like that: with the name once, and not much beside it."""
    is_once, around = text.count(NAME) == 1, len(text) - len(NAME)
    return is_once and around <= MOST_AROUND and is_nick(text.replace(NAME, "a"))


def candidates(base: str, limit: int, form: str = NAME) -> Iterator[str]:
    """Yield the nick and others like it, each valid and within the limit, none twice.

    They end when nothing of the name would be left. If the nick is made like ``form``, they all
    are, but where the limit leaves no room for that.
    """
    before, _, after = form.partition(NAME)
    around = len(before) + len(after)
    is_like_it = base.startswith(before) and base.endswith(after) and len(base) > around
    if not is_like_it or limit - around < _LEAST_NAME:
        before = after = ""
    name = base[len(before) : len(base) - len(after)]
    room = limit - len(before) - len(after)
    yield before + name[:room] + after
    seen = {name[:room]}
    for tail in chain(("_", "__"[: room - 1]), map(str, count(2))):
        if len(tail) >= room:
            return
        nick = name[: room - len(tail)] + tail
        if nick not in seen:
            seen.add(nick)
            yield before + nick + after


def nicks_of_relay(relay: str, limits: Isupport) -> frozenset[str]:
    """The relay's own nick, folded: whole and as the network cuts it. None without a relay."""
    return frozenset(limits.fold(nick) for nick in (relay, relay[: limits.nick_length]) if nick)


def username_of(user: UserId) -> str:
    """Make a user name (ident) of the user id; several users may give the same."""
    return _NOT_USER.sub("", localpart(user)).lstrip("-_")[:10].lower() or "matrix"


class Nicks:
    """Who owns which nick on this network."""

    def __init__(self, store: Store, relay: str = "", form: str = NAME) -> None:
        """``relay``: the relay's nick, which nobody gets; ``form``: what new ones are like."""
        self._store = store
        self._form = form
        self._relay = relay
        self._owned: dict[UserId, str] | None = None
        self._reserved: dict[UserId, tuple[str, ...]] = {}
        self._cut: dict[UserId, str] = {}
        """The shorter nicks of those whose own a server would not take whole."""
        self._owners = _UNKNOWN
        """The case mapping and the longest nick, and by them each nick's owner."""
        self._lock = asyncio.Lock()

    def named_after(self, user: UserId, name: str) -> str:
        """Make a nick of a user's name as nicks are made here, of any length."""
        return named_after(user, name, self._form)

    def candidates(self, base: str, limit: int) -> Iterator[str]:
        """Yield a user's nick and others like it: see :func:`candidates`."""
        return candidates(base, limit, self._form)

    async def load(self) -> None:
        """Have in memory who owns which nick."""
        async with self._lock:
            await self._load()

    async def find(self, user: UserId) -> str | None:
        """Return the user's nick, if one was given."""
        async with self._lock:
            return (await self._load()).get(user)

    async def assign(self, user: UserId, name: str, limits: Isupport) -> str:
        """Return the user's nick; the first time choose it, free of other users', and keep it.

        Raises ``ModuleNotReady`` when no nick is left.
        """
        async with self._lock:
            owned = await self._load()
            nick = self._choose(user, name, owned, limits)
            current = owned.get(user)
            if nick == current:
                self._end_cut(user)
                return nick
            if not nick:
                like = current or self.named_after(user, name)
                raise ModuleNotReady(
                    f"All nicks like {like} that fit in the network's "
                    f"{limits.nick_length} characters are given to others."
                )
            if self._is_cut(current, self.named_after(user, name), limits):
                self._cut[user] = nick
                self._owners_by(limits).setdefault(limits.fold(nick), user)
                return nick
            await self._give(user, nick, owned, limits)
            return nick

    @staticmethod
    def _is_cut(current: str | None, base: str, limits: Isupport) -> bool:
        """Whether a nick is only as long as this server takes it; another may take all of it."""
        if current is not None:
            return len(current) > limits.nick_length
        return len(base) > limits.nick_length and not limits.says_nick_length

    def _end_cut(self, user: UserId) -> None:
        if self._cut.pop(user, None) is not None:
            self._owners = _UNKNOWN

    async def foretell(self, user: UserId, name: str, limits: Isupport) -> str:
        """Return the nick that :meth:`assign` would; empty if none is left."""
        async with self._lock:
            return self._choose(user, name, await self._load(), limits)

    def _choose(self, user: UserId, name: str, owned: dict[UserId, str], limits: Isupport) -> str:
        owners, current = self._owners_by(limits), owned.get(user)
        if current is not None and self._fits(current, user, owners, limits):
            return current
        base, cut = self.named_after(user, name), self._cut.get(user)
        is_cut = cut is not None and self._is_cut(current, base, limits)
        if is_cut and cut is not None and self._fits(cut, user, owners, limits):
            return cut
        for nick in self.candidates(current or base, limits.nick_length):
            if owners.get(limits.fold(nick), user) == user:
                return nick
        return ""

    async def choose(self, user: UserId, nick: str, limits: Isupport) -> None:
        """Have the user own the nick from now on.

        Raises ``PermanentFailure`` if another does, or the relay.
        """
        async with self._lock:
            owned = await self._load()
            owners = self._owners_by(limits)
            if owners.get(limits.fold(nick), user) != user:
                raise PermanentFailure(f"{nick} is kept for another Matrix user.")
            await self._give(user, nick, owned, limits)

    async def reserve(self, user: UserId, nick: str, limits: Isupport) -> None:
        """Keep the nick of a login for the user, beside the one that is theirs without it.

        Raises ``PermanentFailure`` if another has it, or the relay.
        """
        async with self._lock:
            await self._load()
            owner = self._owners_by(limits).get(limits.fold(nick))
            if owner is not None and owner != user:
                raise PermanentFailure(f"{nick} is kept for another Matrix user.")
            # Also one that is the user's own: another may be that tomorrow.
            if limits.fold(nick) in map(limits.fold, self._reserved.get(user, ())):
                return
            reserved = (nick, *self._reserved.get(user, ()))[:MOST_RESERVED]
            said = " ".join(reserved).encode()
            await self._store.put(RESERVED_PREFIX + user, said, subject=user)
            self._reserved[user] = reserved
            self._owners = _UNKNOWN

    async def forget(self, user: UserId) -> None:
        """Know nothing of the user any more, of whom the store has nothing."""
        async with self._lock:
            if self._owned is not None:
                self._owned.pop(user, None)
            self._reserved.pop(user, None)
            self._cut.pop(user, None)
            self._owners = _UNKNOWN

    async def _give(
        self, user: UserId, nick: str, owned: dict[UserId, str], limits: Isupport
    ) -> None:
        await self._store.put(STORE_PREFIX + user, nick.encode(), subject=user)
        self._end_cut(user)
        owners, former = self._owners_by(limits), owned.get(user)
        if former is not None and owners.get(limits.fold(former)) == user:
            del owners[limits.fold(former)]
        owned[user] = nick
        for one in (*self._reserved.get(user, ()), nick):
            owners.setdefault(limits.fold(one), user)

    def is_anothers(self, nick: str, user: UserId | None, limits: Isupport) -> bool:
        """Whether the nick is another user's or the relay's, as far as it is in memory.

        ``user`` is None for the relay. See :meth:`load`.
        """
        own = user or _NOBODY
        return self._owners_by(limits).get(limits.fold(nick), own) != own

    def owned(self) -> Iterator[tuple[UserId, str]]:
        """Yield who owns which nick, as far as it is in memory; their own first."""
        yield from (self._owned or {}).items()
        for user, reserved in self._reserved.items():
            yield from ((user, nick) for nick in reserved)
        yield from self._cut.items()

    def nick_of(self, user: UserId) -> str | None:
        """Return the nick known in memory, for mentions; None if there is none (yet)."""
        return (self._owned or {}).get(user)

    async def _load(self) -> dict[UserId, str]:
        if self._owned is None:
            rows = await self._store.find(STORE_PREFIX)
            reserved = await self._store.find(RESERVED_PREFIX)
            self._reserved = {
                UserId(key.removeprefix(RESERVED_PREFIX)): tuple(value.decode().split())
                for key, value in reserved.items()
            }
            self._owned = {
                UserId(key.removeprefix(STORE_PREFIX)): value.decode()
                for key, value in rows.items()
            }
            self._owners = _UNKNOWN
        return self._owned

    def _owners_by(self, limits: Isupport) -> dict[str, UserId]:
        rules = (limits.casemapping, limits.nick_length)
        if self._owners[0] != rules or not self._owners[1]:
            # Of two whose nicks have become one, the first keeps it; the relay goes before all.
            owners = dict.fromkeys(nicks_of_relay(self._relay, limits), _NOBODY)
            for owner, nick in self.owned():
                owners.setdefault(limits.fold(nick), owner)
            self._owners = (rules, owners)
        return self._owners[1]

    @staticmethod
    def _fits(nick: str, user: UserId, owners: dict[str, UserId], limits: Isupport) -> bool:
        # A network that changed its case mapping or its limit can make two nicks one.
        return owners.get(limits.fold(nick), user) == user and len(nick) <= limits.nick_length
