"""Who is ours: every question about our user ids and aliases has its answer here."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from bridge.sdk.ids import InstanceId, UserId

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_LIMIT = 255
"""Bytes of a Matrix user id (Matrix specification, appendix 4.2)."""

_HASHED = "=h"
"""How a shortened id's tail begins; the escape never writes ``=`` before an ``h``."""


class Namespaces:
    """The ids that belong to us.

    A ghost is ``@_trestle_<instance>_<remote id>:server``; every byte of the remote id outside
    ``a-z 0-9 . -`` is written ``=xx`` (hexadecimal), so that it can be read back and no two
    people share a ghost. Ids over 255 bytes keep a hash tail; ``long_ids`` reads those back.
    """

    def __init__(
        self,
        *,
        server_name: str,
        prefix: str = "_trestle_",
        bot_localpart: str = "trestle",
        sender_localpart: str = "",
        networks: Iterable[InstanceId] = (),
        bots: Iterable[InstanceId] = (),
    ) -> None:
        self._server = f":{server_name}"
        self._prefix = prefix
        self._ghost_start = f"@{prefix}"
        self.networks = frozenset(networks)
        self.bots = frozenset(bots)
        self.bot = UserId(f"@{bot_localpart}:{server_name}")
        self.sender = UserId(f"@{sender_localpart}:{server_name}")
        self._bot_ids = {
            self.bot: InstanceId(""),
            **{self.bot_of(instance): instance for instance in self.bots},
        }
        self._ours = frozenset((*self._bot_ids, self.sender))
        self._long_ids: dict[UserId, tuple[InstanceId, str]] = {}
        self._ghosts: dict[tuple[str, str], UserId] = {}
        self.new_long_ids: list[tuple[UserId, InstanceId, str]] = []

    def know_long_ids(self, long_ids: Mapping[UserId, tuple[InstanceId, str]]) -> None:
        """Take in what shortened ids stand for, as stored."""
        self._long_ids.update(long_ids)

    def bot_of(self, instance: InstanceId) -> UserId:
        """The Matrix user of a bot instance."""
        return UserId(f"@{self._prefix}{instance}{self._server}")

    @property
    def bot_ids(self) -> Mapping[UserId, InstanceId]:
        """All our bots; the main bot's instance is the empty text."""
        return self._bot_ids

    def ghost(self, instance: InstanceId, remote_id: str) -> UserId:
        """The Matrix user of a remote person."""
        key = (instance, remote_id)
        ghost = self._ghosts.get(key)
        if ghost is None:
            ghost = UserId(self._spell("@", instance, remote_id))
            if len(self._ghosts) > 50_000:
                self._ghosts.clear()
            self._ghosts[key] = ghost
            if _HASHED in ghost and ghost not in self._long_ids:
                self._long_ids[ghost] = (instance, remote_id)
                self.new_long_ids.append((ghost, instance, remote_id))
        return ghost

    def alias(self, instance: InstanceId, chat: str) -> str:
        """The alias of a remote chat."""
        return self._spell("#", instance, chat)

    def parse_ghost(self, user_id: str) -> tuple[InstanceId, str] | None:
        """The instance and the remote id of a ghost; None if it is none of ours."""
        if not user_id.startswith(self._ghost_start) or not user_id.endswith(self._server):
            return None
        if _HASHED in user_id:
            return self._long_ids.get(UserId(user_id))
        return self._read(user_id)

    def parse_alias(self, alias: str) -> tuple[InstanceId, str] | None:
        """The instance and the chat of an alias of ours."""
        if not alias.startswith(f"#{self._prefix}") or not alias.endswith(self._server):
            return None
        return self._read(alias)

    def is_ours(self, user_id: str) -> bool:
        """Whether it is a ghost, a bot or the registration's sender."""
        if user_id.startswith(self._ghost_start):
            return user_id.endswith(self._server)
        return user_id in self._ours

    def is_ghost(self, user_id: str) -> bool:
        """Whether it stands for a remote person."""
        return user_id.startswith(self._ghost_start) and self.parse_ghost(user_id) is not None

    def is_bot(self, user_id: str) -> bool:
        """Whether it is the main bot or a bot instance."""
        return user_id in self._bot_ids

    def regexes(self) -> dict[str, list[str]]:
        """Regular expressions of what is ours, for the registration."""
        server = re.escape(self._server)
        prefix = re.escape(self._prefix)
        return {
            "users": [f"^{re.escape(self.bot)}$", f"^@{prefix}.*{server}$"],
            "aliases": [f"^#{prefix}.*{server}$"],
        }

    def _spell(self, sigil: str, instance: str, remote_id: str) -> str:
        start = f"{sigil}{self._prefix}{instance}_"
        whole = f"{start}{_escape(remote_id)}{self._server}"
        if len(whole.encode()) <= _LIMIT:
            return whole
        data = remote_id.encode("utf-8", "surrogatepass")
        tail = _HASHED + hashlib.blake2b(data, digest_size=16).hexdigest()
        room = _LIMIT - len((start + tail + self._server).encode())
        kept = re.sub(r"=[0-9a-f]?$", "", _escape(remote_id)[:room])
        return f"{start}{kept}{tail}{self._server}"

    def _read(self, spelled: str) -> tuple[InstanceId, str] | None:
        inner = spelled[1 + len(self._prefix) : -len(self._server)]
        instance, separator, escaped = inner.partition("_")
        if not separator or not escaped or instance not in self.networks:
            return None
        remote_id = _unescape(escaped)
        # Only the one spelling that we write is ours; any other would be a second id.
        if remote_id is None or _escape(remote_id) != escaped:
            return None
        return InstanceId(instance), remote_id


def _escape(text: str) -> str:
    if _PLAIN.issuperset(text):
        return text
    data = text.encode("utf-8", "surrogatepass")
    return "".join(chr(b) if chr(b) in _PLAIN else f"={b:02x}" for b in data)


def _unescape(text: str) -> str | None:
    data = bytearray()
    position = 0
    while position < len(text):
        character = text[position]
        if character == "=":
            code = text[position + 1 : position + 3]
            if not re.fullmatch(r"[0-9a-f]{2}", code):
                return None
            data.append(int(code, 16))
            position += 3
        elif character in _PLAIN:
            data.append(ord(character))
            position += 1
        else:
            return None
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
