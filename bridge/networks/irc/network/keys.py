"""The keys of channels (mode ``+k``): what lets the relay and everybody's own connection in.

They lie in the vault, as what the relay's login keeps. A channel tells its members when its key
changes, and so the relay learns of that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bridge.networks.irc.network.behind import Behind
from bridge.networks.irc.network.keepsakes import Keepsakes
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.secret import Secret

PREFIX = "key:"
"""Before the channel, in the name of what is kept."""
FORGETTING = frozenset({"off", "none"})
"""Words that are said to forget a key."""
MOST_BYTES = 100
"""Of a key, where the network does not say how many it takes (``KEYLEN``)."""
_HIDDEN = frozenset({"*", "<key>"})
"""What servers say instead of a key to those who may not see it."""


def is_key(text: str) -> bool:
    """Whether a text can be a channel's key: one word of one line, and one of a list."""
    is_word = text.isprintable() and not any(sign.isspace() or sign == "," for sign in text)
    return 0 < len(text.encode("utf-8", "replace")) <= MOST_BYTES and is_word and text[0] != ":"


def read_key(text: str, limits: Isupport) -> Secret:
    """Read a channel's key. Raises ``PermanentFailure``, without the key, if it is not one."""
    if text.casefold() in FORGETTING:
        raise PermanentFailure(f"{' and '.join(sorted(FORGETTING))} forget a key: neither is one")
    if not is_key(text):
        raise PermanentFailure(
            "that is no channel's key: one is a word without a space or a comma, has no colon as "
            f"its first sign, and {MOST_BYTES} bytes at most"
        )
    if len(text.encode()) > limits.key_length:
        raise PermanentFailure(f"a key has at most {limits.key_length} bytes there")
    return Secret(text)


class Keyring:
    """The keys of one network's channels."""

    def __init__(self) -> None:
        self._keys: dict[RemoteChatId, Secret] = {}
        self._offered: dict[RemoteChatId, Secret] = {}
        """Said by somebody, and tried just now."""
        self.behind = Behind[RemoteChatId](lambda chat: chat)

    def open(self, keepsakes: Keepsakes) -> None:
        """Have the keys that the relay's login keeps, and keep others there."""
        kept = keepsakes.named(PREFIX)
        # What could not be written before the relay's login began anew is newer.
        kept = {chat: key for chat, key in kept.items() if chat not in self.behind}
        self._keys |= {RemoteChatId(chat): key for chat, key in kept.items()}
        self.behind.open(partial(self._write, keepsakes))

    def find(self, chat: RemoteChatId) -> Secret | None:
        """The key that a channel is to be joined with; None if it is not known to have one."""
        return self._offered.get(chat) or self._keys.get(chat)

    def kept(self, chat: RemoteChatId) -> Secret | None:
        """The key that a channel is known to have, whatever is tried just now; None without."""
        return self._keys.get(chat)

    def find_named(
        self,
        chat_of: Callable[[RemoteChatId], RemoteChat],
        name: str,
        fold: Callable[[str], str],
        *,
        is_kept: bool = False,
    ) -> Secret | None:
        """The same by the channel's name: ids are names as the network folded them once, which it
        may do otherwise by now. ``chat_of`` gives what is known of an id; ``is_kept``: none that
        is only tried just now."""
        folded, find = fold(name), self.kept if is_kept else self.find
        for chat in (RemoteChatId(folded), *self._offered, *self._keys):
            key = find(chat)
            if key is not None and fold(chat_of(chat).name) == folded:
                return key
        return None

    @contextmanager
    def offering(self, chat: RemoteChatId, key: Secret) -> Iterator[None]:
        """Have the channel tried with another key than the one that is kept."""
        self._offered[chat] = key
        try:
            yield
        finally:
            self._offered.pop(chat, None)

    async def keep(self, chat: RemoteChatId, key: Secret | None) -> None:
        """Join with the key from now on; None: forget it. Raises a ``DeliveryError`` while it
        cannot be stored; it holds all the same, and is stored later."""
        if key is None and chat not in self._keys and chat not in self.behind:
            return
        self._note(chat, key)
        await self.behind.write(chat)

    def hear(self, chat: RemoteChatId, text: str) -> None:
        """Learn from the channel itself which key it has now, if the server shows it."""
        if text in _HIDDEN or not is_key(text):
            return  # Nobody could join with that.
        key = Secret(text)
        if key != self._keys.get(chat):
            self._note(chat, key)

    def hear_of_none(self, chat: RemoteChatId) -> None:
        """Learn from the channel itself that it has no key any more."""
        if chat in self._keys:
            self._note(chat, None)

    def _note(self, chat: RemoteChatId, key: Secret | None) -> None:
        if key is None:
            self._keys.pop(chat, None)
        else:
            self._keys[chat] = key
        self.behind.change(chat)

    async def _write(self, keepsakes: Keepsakes, chat: RemoteChatId) -> None:
        key = self._keys.get(chat)
        await keepsakes.keep(PREFIX + chat, "" if key is None else key.reveal())
