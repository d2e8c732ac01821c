"""People's sessions at the web: the bot says when one begins, lists them and ends them.

Whoever got hold of a link or of a homeserver's word for somebody does not stay unseen.
"""

from collections.abc import Callable, Sequence
from functools import partial

from bridge.core.commands.privateanswers import answer_privately, show_privately
from bridge.core.host.bots import BotCall, Stage, say
from bridge.core.lanes.cancellation import Work
from bridge.core.lanes.patience import LONGEST_PAUSE, persistently
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import UserId
from bridge.storage.tokens import TokenRow, Tokens

_MOST_UNTOLD = 1000
"""For so many sessions telling is tried again and again; for any more, once."""


class Sessions:
    """What the main bot says of them."""

    def __init__(
        self, tokens: Tokens, stage: Stage, bot: UserId, do: Callable[[Work], object]
    ) -> None:
        self._tokens = tokens
        self._stage = stage
        self._bot = bot
        self._do = do
        self._untold = 0

    def begun(self, session: TokenRow) -> None:
        """Somebody has signed in: have the person told, where nobody else reads it."""
        self._do(partial(self._tell_surely, session))

    async def obey(self, call: BotCall, words: Sequence[str]) -> str:
        """List the person's sessions, or end one or all. Raises a ``DeliveryError``."""
        who = call.sender.user_id
        if words:
            return await answer_privately(
                self._stage, self._bot, call, lambda: self._end(who, words)
            )
        there = await self._tokens.tokens_of(who)
        text = "\n".join(map(_describe, there)) or "You are signed in nowhere at the web."
        return await show_privately(self._stage, self._bot, call, text)

    async def _end(self, who: UserId, words: Sequence[str]) -> str:
        match list(words):
            case ["end", "all"]:
                return f"Ended: {await self._tokens.revoke_all(who)}."
            case ["end", name]:
                ended = [
                    await self._tokens.revoke(who, one.id)
                    for one in await self._tokens.tokens_of(who) if one.name == name.casefold()
                ]  # fmt: skip
                if any(ended):
                    return "That session has ended."
                raise PermanentFailure(
                    f"there is no such session of yours; say {as_typed('sessions')}"
                )
        raise PermanentFailure(
            f"say {as_typed('sessions')} alone, or {as_typed('sessions end')} and a name or all"
        )

    async def _tell_surely(self, session: TokenRow) -> None:
        if self._untold >= _MOST_UNTOLD:
            await self._tell(session)
            return
        self._untold += 1
        try:
            await persistently(lambda: self._tell(session), LONGEST_PAUSE)
        finally:
            self._untold -= 1

    async def _tell(self, session: TokenRow) -> None:
        room = await self._stage.private_chats.open(self._bot, session.subject)
        text = (
            f"You have signed in at the web, {_what_for(session)}, as session {session.name}. "
            "If that was not you, say "
            f"{as_typed(f'sessions end {session.name}', direct=True)} at once."
        )
        await say(self._stage, self._bot, room, text, MessageKind.NOTICE, "session", session.id)


def _what_for(session: TokenRow) -> str:
    kind, _, network = session.scope.partition(":")
    return f"to sign in to {network}" if kind == "login" else "to all that is yours here"


def _describe(session: TokenRow) -> str:
    return (
        f"{session.name}: {_what_for(session)}, since {session.made_at:%Y-%m-%d %H:%M} UTC, "
        f"last used {session.used_at:%Y-%m-%d %H:%M}"
    )
