"""Whom the bans of channels are about, over restarts: a mask of a host does not say it.

A mask often is an address, and mostly one of somebody who is nobody's user. So neither masks nor
nicks of the network are kept, only hashes by which they are known again, and those for a time.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import NewType

from bridge.networks.irc.network.behind import Behind
from bridge.sdk.ids import RemoteChatId, RemoteUserId, UserId
from bridge.sdk.module import Store

STORE_PREFIX = "banned:"
KEEP = timedelta(days=59)
"""As addresses are kept: today and 59 days more."""
MOST = 5000
"""Masks of one network that are noted. Whoever sets more of them means no good."""
MOST_IN_CHAT = 500
"""The same of one channel, whose oldest goes for one more: no server's list is that long."""

Digest = NewType("Digest", str)
"""What stands for a mask of a channel, or for a nick there."""
_DIGEST = re.compile(r"[0-9a-f]{32}\Z")

_Key = tuple[RemoteChatId, Digest]


@dataclass(frozen=True, slots=True)
class _Note:
    at: datetime
    who: UserId | Digest


class Banned:
    """Masks that the bridge bans somebody by, and those that others ban one of ours by."""

    def __init__(self) -> None:
        self._now: Callable[[], datetime] | None = None
        self._notes: dict[_Key, _Note] = {}
        self._gone: set[str] = set()
        """Channels and people that were forgotten before what is kept was read."""
        self._outdated: dict[_Key, str] = {}
        """Keys in the store that hold a mask as it is, as they all did once."""
        self.behind = Behind[_Key](lambda key: key[0])

    async def load(self, store: Store, now: Callable[[], datetime]) -> None:
        """Read what is kept, once. Raises ``TemporaryFailure`` when the database is away."""
        if self.behind.is_open:
            return
        kept = await store.find(STORE_PREFIX)
        if self.behind.is_open:
            return  # Another has read it meanwhile, and what changed since may be written.
        for key, value in kept.items():
            name, _, mask = key.removeprefix(STORE_PREFIX).partition(" ")
            chat, said = RemoteChatId(name), value.decode("utf-8", "replace")
            if _DIGEST.match(mask):
                one, note = (chat, Digest(mask)), _read(said)
            else:
                one = (chat, _digest(chat, mask))
                person = UserId(said) if said.startswith("@") else _digest(chat, said)
                note, self._outdated[one] = _Note(now(), person), key
                self.behind.change(one)
            if chat in self._gone or note.who in self._gone:
                self.behind.change(one)
            else:
                self._notes.setdefault(one, note)
        self._gone.clear()
        self._now = now
        self.behind.open(partial(self._write, store, now))

    def note(self, chat: RemoteChatId, mask: str, person: RemoteUserId | UserId) -> None:
        """Take note whom a mask is about, after :meth:`load`. Masks are folded."""
        if self._now is None:
            return
        now = self._now()
        for old in [one for one, note in self._notes.items() if note.at + KEEP <= now]:
            self._forget(old)
        there = [one for one in self._notes if one[0] == chat]
        if len(there) >= MOST_IN_CHAT:
            self._forget(min(there, key=lambda one: self._notes[one].at))
        if len(self._notes) < MOST:
            one = (chat, _digest(chat, mask))
            who = UserId(person) if person.startswith("@") else _digest(chat, person)
            self._notes[one] = _Note(now, who)
            self.behind.change(one)

    def forget(self, chat: RemoteChatId, mask: str) -> None:
        """Take note that the channel does not ban the mask any more."""
        self._forget((chat, _digest(chat, mask)))

    def forget_chat(self, chat: RemoteChatId) -> None:
        """Forget a channel that is bridged no more."""
        if not self.behind.is_open:
            self._gone.add(chat)
        self.forget_lifted(chat, self.noted(chat), ())

    def forget_person(self, person: UserId) -> None:
        """Forget which masks are about a Matrix user."""
        if not self.behind.is_open:
            self._gone.add(person)
        for one in [one for one, note in self._notes.items() if note.who == person]:
            self._forget(one)

    def noted(self, chat: RemoteChatId) -> frozenset[Digest]:
        """What stands for the masks that are noted of a channel."""
        return frozenset(digest for where, digest in self._notes if where == chat)

    def forget_lifted(
        self, chat: RemoteChatId, noted: Collection[Digest], masks: Collection[str]
    ) -> set[UserId]:
        """Forget those that were noted and are not among a channel's masks, which are folded.

        Gives the Matrix users whom they were about.
        """
        found: set[UserId] = set()
        for digest in set(noted) - {_digest(chat, mask) for mask in masks}:
            note = self._notes.get((chat, digest))
            if note is not None and note.who.startswith("@"):
                found.add(UserId(note.who))
            self._forget((chat, digest))
        return found

    def owner(self, chat: RemoteChatId, mask: str) -> UserId | None:
        """Which Matrix user a mask is about; None if none is noted."""
        note = self._find(chat, mask)
        return UserId(note.who) if note is not None and note.who.startswith("@") else None

    def knows(self, chat: RemoteChatId, mask: str) -> bool:
        """Whether it is noted whom a mask is about."""
        return self._find(chat, mask) is not None

    def is_about(self, chat: RemoteChatId, mask: str, nick: str) -> bool:
        """Whether a mask is noted for somebody of the network, by the folded nick."""
        note = self._find(chat, mask)
        return note is not None and note.who == _digest(chat, nick)

    async def _write(self, store: Store, now: Callable[[], datetime], one: _Key) -> None:
        key, note = f"{STORE_PREFIX}{one[0]} {one[1]}", self._notes.get(one)
        left = timedelta(0) if note is None else note.at + KEEP - now()
        if note is None or left <= timedelta(0):
            await store.delete(key)
        else:
            subject = note.who if note.who.startswith("@") else None
            said = f"{note.at.isoformat()} {note.who}"
            await store.put(key, said.encode(), subject=subject, keep_for=left)
        if one in self._outdated:
            # Only now: what stands in its place is written.
            await store.delete(self._outdated[one])
            del self._outdated[one]

    def _find(self, chat: RemoteChatId, mask: str) -> _Note | None:
        note = self._notes.get((chat, _digest(chat, mask)))
        is_old = note is not None and self._now is not None and note.at + KEEP <= self._now()
        return None if is_old else note

    def _forget(self, one: _Key) -> None:
        if self._notes.pop(one, None) is not None:
            self.behind.change(one)


def _digest(chat: RemoteChatId, name: str) -> Digest:
    return Digest(blake2b(f"{chat} {name}".encode(), digest_size=16).hexdigest())


def _read(said: str) -> _Note:
    at, _, who = said.partition(" ")
    person = UserId(who) if who.startswith("@") else Digest(who)
    return _Note(datetime.fromisoformat(at), person)
