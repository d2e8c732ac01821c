"""Who is ours: every question about our user ids and aliases has its answer here."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from bridge.sdk.errors import ConfigError
from bridge.sdk.globs import Glob
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.aliasformat import AliasTemplate

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_LIMIT = 255
"""Bytes of a Matrix user id or alias (Matrix specification, appendix 4.2)."""

_LONGEST_INSTANCE = 16
_INSTANCE = re.compile(r"[a-z][a-z0-9]*(?:_.*)?", re.DOTALL)
"""How what follows the prefix begins: an instance alone is a bot, with ``_`` it has people."""

_HASHED = "=h"
"""How a shortened id's tail begins; the escape never writes ``=`` before an ``h``."""

_HASH_BYTES = 16
_TAIL = len(_HASHED) + 2 * _HASH_BYTES


class Namespaces:
    """The ids that belong to us.

    A ghost is ``@_trestle_<instance>_<remote id>:server``; every byte of the remote id outside
    ``a-z 0-9 . -`` is written ``=xx`` (hexadecimal), so that it can be read back and no two
    people share a ghost. Ids over 255 bytes keep a hash tail; ``know_long_ids`` brings back what
    they stand for, ``new_long_ids`` is what is to be stored. Aliases of chats are made the same,
    if the instance has no template for them.
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
        templates: Mapping[InstanceId, str] | None = None,
    ) -> None:
        """Raise ``ConfigError`` if people could not be told from bots, or ids had no room.

        The same if an alias could belong to two networks, by their ``templates``.
        """
        self._server = f":{server_name}"
        self._prefix = prefix
        self._ghost_start = f"@{prefix}"
        self.bot = UserId(f"@{bot_localpart}:{server_name}")
        self.sender = UserId(f"@{sender_localpart}:{server_name}")
        self.know_instances(networks, bots)
        self._long_ids: dict[str, tuple[InstanceId, str]] = {}
        self._ghosts: dict[tuple[str, str], UserId] = {}
        self.new_long_ids: list[tuple[str, InstanceId, str]] = []
        """Ids that were shortened since they were last stored, and what they stand for."""

        if len(f"@{prefix}_{self._server}".encode()) + _LONGEST_INSTANCE + _TAIL > _LIMIT:
            raise ConfigError(
                f"{server_name} and {prefix} are too long: a Matrix id has {_LIMIT} bytes"
            )
        for key, localpart in (("bot", bot_localpart), ("sender", sender_localpart)):
            if localpart.startswith(prefix) and _INSTANCE.fullmatch(localpart[len(prefix) :]):
                raise ConfigError(
                    f"{localpart} could be somebody else, since ids with {prefix} at the start "
                    "are those of bots and of people on networks",
                    path=f"appservice.{key}_localpart",
                )
        self.know_templates(templates or {})

    def know_instances(self, networks: Iterable[InstanceId], bots: Iterable[InstanceId]) -> None:
        """Take in which instances there are from now on."""
        self.networks = frozenset(networks)
        self.bots = frozenset(bots)
        self._bot_ids = {
            self.bot: InstanceId(""),
            **{self.bot_of(instance): instance for instance in self.bots},
        }
        self._ours = frozenset((*self._bot_ids, self.sender))

    def know_templates(self, templates: Mapping[InstanceId, str]) -> None:
        """Take in how the chats of some instances are called as aliases.

        Raises ``ConfigError`` if an alias could be of two of them; then nothing has changed.
        """
        made = {name: AliasTemplate.of(text, name) for name, text in templates.items()}
        known = {InstanceId(""): AliasTemplate(f"#{self._prefix}", "")}
        for name, template in made.items():
            for other, before in known.items():
                if template.clashes(before):
                    whose = f"those of {other}" if other else f"all that begin with {before.head}"
                    raise ConfigError(
                        f"aliases by it could not be told from {whose}; begin it otherwise",
                        path=f"modules.{name}.alias_template",
                    )
            known[name] = template
        self._templates = made

    def know_long_ids(self, long_ids: Mapping[str, tuple[InstanceId, str]]) -> None:
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
        """The Matrix user of a remote person. Raises ``ValueError`` for an empty remote id."""
        key = (instance, remote_id)
        ghost = self._ghosts.get(key)
        if ghost is None:
            ghost = UserId(self._spell("@", instance, remote_id))
            if len(self._ghosts) > 50_000:
                self._ghosts.clear()
            self._ghosts[key] = ghost
        return ghost

    def alias(self, instance: InstanceId, chat: str) -> str:
        """The alias of a remote chat. Raises ``ValueError`` for an empty chat id."""
        template = self._templates.get(instance)
        if template is not None and chat:
            spelled = template.spell(chat) + self._server
            if len(spelled.encode()) <= _LIMIT:
                return spelled
        return self._spell("#", instance, chat)

    def parse_ghost(self, user_id: str) -> tuple[InstanceId, str] | None:
        """The instance and the remote id of a ghost; None if it is none of ours."""
        return self._read(user_id) if user_id.startswith(self._ghost_start) else None

    def parse_alias(self, alias: str) -> tuple[InstanceId, str] | None:
        """The instance and the chat of an alias of ours: by a template, or as our ids are.

        It may be the latter even where there is a template: from before there was one.
        """
        if alias.startswith(f"#{self._prefix}"):
            return self._read(alias)
        spelled = alias.removesuffix(self._server)
        if spelled == alias or ":" in spelled or len(alias.encode("utf-8", "replace")) > _LIMIT:
            return None
        for instance, template in self._templates.items():
            chat = template.read(spelled)
            if chat is not None and instance in self.networks:
                return instance, chat
        return None

    def sample_aliases(self, chat: str) -> list[str]:
        """Aliases of a chat by every way in which there are some."""
        own = f"#{self._prefix}{chat}{self._server}"
        return [own, *(one.spell(chat) + self._server for one in self._templates.values())]

    def read_pattern(self, pattern: str, instance: InstanceId) -> Sequence[str]:
        """Turn a pattern of user ids into patterns of remote ids; none if it is about no ghost.

        One of them matches a remote id if the pattern matches the ghost's user id, whether or not
        it spells out the instance: ``*`` is about everybody. A character of the remote id counts
        as one even where the ghost has ``=xx`` for it. Shortened ids are not looked at.
        """
        ghosts = Glob(pattern).between(f"{self._ghost_start}{instance}_", self._server)
        read = (_read_pieces(one.text) for one in ghosts)
        return [found for found in read if found]

    def is_ours(self, user_id: str) -> bool:
        """Whether it is a ghost, a bot or the registration's sender."""
        if user_id.startswith(self._ghost_start) and self._inner(user_id) is not None:
            return True
        return user_id in self._ours

    def is_ghost(self, user_id: str) -> bool:
        """Whether it stands for a remote person."""
        # Asked several times of every message; nearly all are of people, whom one look tells.
        return user_id.startswith(self._ghost_start) and self._read(user_id) is not None

    def is_bot(self, user_id: str) -> bool:
        """Whether it is the main bot or a bot instance."""
        return user_id in self._bot_ids

    def regexes(self) -> dict[str, list[str]]:
        """Regular expressions of what is ours, for the registration.

        They match whatever :meth:`is_ours` knows, except the sender, who is ours without them.
        They use only what every homeserver's regular expressions know.
        """
        server = re.escape(self._server)
        prefix = re.escape(self._prefix)
        return {
            "users": [f"^{re.escape(self.bot)}$", f"^@{prefix}[^:]*{server}$"],
            "aliases": [
                f"^#{prefix}[^:]*{server}$",
                *(
                    f"^{re.escape(one.head)}[^:]+{re.escape(one.tail)}{server}$"
                    for one in self._templates.values()
                ),
            ],
        }

    def everybody(self) -> str:
        """A regular expression of all people of our server."""
        return f"^@[^:]*{re.escape(self._server)}$"

    def _spell(self, sigil: str, instance: InstanceId, remote_id: str) -> str:
        if not remote_id:
            raise ValueError(f"{instance} gave an empty id")
        start = f"{sigil}{self._prefix}{instance}_"
        escaped = _escape(remote_id)
        room = _LIMIT - len((start + self._server).encode())
        if len(escaped) <= room:
            return start + escaped + self._server
        data = remote_id.encode("utf-8", "surrogatepass")
        tail = _HASHED + hashlib.blake2b(data, digest_size=_HASH_BYTES).hexdigest()
        kept = re.sub(r"=[0-9a-f]?$", "", escaped[: room - _TAIL])
        spelled = start + kept + tail + self._server
        if spelled not in self._long_ids:
            self._long_ids[spelled] = (instance, remote_id)
            self.new_long_ids.append((spelled, instance, remote_id))
        return spelled

    def _inner(self, spelled: str) -> str | None:
        """What stands between the prefix and the server, None if it is another server's."""
        if not spelled.endswith(self._server):
            return None
        inner = spelled[len(self._ghost_start) : -len(self._server)]
        # A foreign server with a port could end as ours does.
        return None if ":" in inner else inner

    def _read(self, spelled: str) -> tuple[InstanceId, str] | None:
        instance, separator, escaped = (self._inner(spelled) or "").partition("_")
        if not separator or not escaped or instance not in self.networks:
            return None
        if len(spelled) > _LIMIT:
            return None
        if _HASHED in escaped:
            return self._long_ids.get(spelled)
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


def _read_pieces(pattern: str) -> str | None:
    """Read a pattern of escaped texts as one of what they stand for; None if there are none."""
    read = []
    for piece in re.split(r"([*?])", pattern):
        found = piece if piece in {"*", "?"} else _unescape(piece)
        # What is not spelled as we do stands in no id of ours.
        if found is None or (found != piece and _escape(found) != piece):
            return None
        if found != piece and {"*", "?"} & {*found}:
            return None  # In a pattern they would mean something else.
        read.append(found)
    return "".join(read)


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
