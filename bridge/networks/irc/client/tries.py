"""What somebody tries to say, and what of it an operator's kill has ended."""

from bridge.sdk.errors import DeliveryError, DeliveryUncertain, PermanentFailure
from bridge.sdk.events import Message, Reaction, Redaction
from bridge.sdk.ids import EventId, RemoteChatId

Said = Message | Reaction | Redaction
MOST_TRIED = 1000
"""In how many chats something is known that failed and may come again."""


class Tries:
    """One client's. What failed for now is remembered until it comes again, or until something
    later in its chat comes: then it is settled, and comes again only if somebody asks for that."""

    def __init__(self) -> None:
        self._tried: dict[RemoteChatId, tuple[EventId, str]] = {}
        """The last of each chat, with the reason why it is over; empty while it is not."""

    def begin(self, said: Said) -> None:
        """Take note that it is tried.

        Raises ``PermanentFailure``, and only once, if a kill came while it was said or since it
        was tried: anyone who has it tried again after that means it.
        """
        reason = self._reason(said)
        self._tried.pop(said.chat, None)
        if reason:
            raise PermanentFailure(reason)
        self._tried[said.chat] = said.event_id, ""
        if len(self._tried) > MOST_TRIED:
            del self._tried[next(iter(self._tried))]

    def finish(self, said: Said, error: BaseException | None) -> None:
        """Take note of how it went. Raises as :meth:`begin`."""
        if error is None or isinstance(error, PermanentFailure):
            self._forget(said)
        elif isinstance(error, DeliveryError) and (reason := self._reason(said)):
            del self._tried[said.chat]
            doubt = ". It may be there all the same, whole or in part"
            uncertain = isinstance(error, DeliveryUncertain)
            raise PermanentFailure(reason + doubt * uncertain) from error

    def _reason(self, said: Said) -> str:
        event, reason = self._tried.get(said.chat, (None, ""))
        return reason if event == said.event_id else ""

    def _forget(self, said: Said) -> None:
        event, _ = self._tried.get(said.chat, (None, ""))
        if event == said.event_id:
            del self._tried[said.chat]

    def end(self, reason: str) -> None:
        """Let nothing of all this be said again."""
        self._tried = {
            chat: (event, before or reason) for chat, (event, before) in self._tried.items()
        }
