"""What people say to the main bot that may be a secret: taken back first, judged afterwards."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from difflib import SequenceMatcher

from bridge.core.bots import BotCall
from bridge.core.doublepuppets import DoublePuppets, read_token
from bridge.core.loginchat import LoginChat
from bridge.core.networkcommands import NetworkCommands
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId

_COMMAND = "double-puppet"
_HARMLESS = frozenset({"on", "off", "token"})
_ALIKE = 0.8
"""From here on a word is taken for a misspelling of another (``SequenceMatcher.ratio``)."""
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

        Whoever says it, and however wrong it is. Raises ``TemporaryFailure`` when the database
        or the homeserver is away.
        """
        tokens = tokens_in(text)
        if not tokens and not self._network_commands.is_secret(text):
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
