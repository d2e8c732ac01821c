"""What people say to the main bot that may be a secret: taken back first, judged afterwards."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches

from bridge.core.commands.loginchat import LoginChat
from bridge.core.commands.networkcommands import NetworkCommands
from bridge.core.host.bots import BotCall
from bridge.core.logins.doublepuppets import DoublePuppets, read_token
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId

_COMMAND = "double-puppet"
_HARMLESS = frozenset({"on", "off", "token"})
_ALIKE = 0.8
"""From here on a word is taken for a misspelling of another (``SequenceMatcher.ratio``)."""
_BRIDGING = ("bridge", "unbridge")
"""The one takes a key after the network and the chat; the other is like it, and takes none."""
_NETWORK = re.compile(r"[a-z][a-z0-9]{0,15}\Z")
_MOST_TRIED = 3
_TRIES_SECONDS = 10.0
"""For those: after them the bot's own removal must still be stored in time."""
_QUOTES = "<>()[]\"'`.,;:"


class Confidences:
    """Knows them and takes them back."""

    def __init__(
        self, login_chat: LoginChat, network_commands: NetworkCommands, doubles: DoublePuppets
    ) -> None:
        self._login_chat = login_chat
        self._network_commands = network_commands
        self._doubles = doubles

    async def take_back(self, call: BotCall, text: str) -> bool:
        """Take the message back if ``text`` may hold a secret; whether that is so.

        Whoever says it, and however it is misspelled. Raises ``TemporaryFailure`` when the
        database or the homeserver is away.
        """
        tokens = tokens_in(text)
        if not (tokens or holds_key(text) or self._network_commands.is_secret(text)):
            return False
        said = EventId(call.item.event["event_id"])
        with suppress(TimeoutError):
            async with asyncio.timeout(_TRIES_SECONDS):
                if await self._take_back_by(tokens, call, said):
                    return True
        await self._login_chat.remove(call)
        return True

    async def _take_back_by(self, tokens: Sequence[str], call: BotCall, said: EventId) -> bool:
        """Where the bot has no power, the token itself has."""
        for word in tokens[:_MOST_TRIED]:
            try:
                token = read_token([word.strip(_QUOTES)])
            except PermanentFailure:
                continue
            if await self._doubles.take_back(call.sender.user_id, token, call.room, said):
                return True
        return False


def holds_key(text: str) -> bool:
    """Whether it may be a ``bridge`` with a chat's key, however that is spelled."""
    command, *words = text.split() or [""]
    if get_close_matches(command.casefold(), _BRIDGING, n=1, cutoff=_ALIKE) != ["bridge"]:
        return False
    # Somebody may have left the network out.
    return len(words) > 2 or (len(words) == 2 and not _NETWORK.match(words[0]))


def tokens_in(text: str) -> Sequence[str]:
    """The words after a ``double-puppet``, however that is spelled, which may be a token."""
    words = text.split()
    for number in (1, 2):
        name = "-".join(words[:number]).casefold()
        if (
            len(name) <= 2 * len(_COMMAND)
            and SequenceMatcher(None, name, _COMMAND).ratio() >= _ALIKE
        ):
            return [word for word in words[number:] if word.casefold() not in _HARMLESS]
    return ()
