"""Chats whose people said no: they are left in peace for a while, whoever wishes otherwise."""

from datetime import datetime

from bridge.model import AskedState, Clock
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId
from bridge.storage.consents import ConsentStore


class Peace:
    """For chats that are bridged without asking anybody there; where somebody is asked, it is kept
    with the asking (``core.consent.consents``).

    Each raises ``TemporaryFailure`` when the database is away.
    """

    def __init__(self, answers: ConsentStore, clock: Clock) -> None:
        self._answers = answers
        self._clock = clock

    async def holds_until(self, instance: InstanceId, chat: RemoteChatId) -> datetime | None:
        """Until when a chat is not bridged again; None if it may be."""
        known = await self._answers.find(instance, chat)
        is_kept = (
            known is not None
            and known.state is AskedState.REFUSED
            and self._clock.now() < known.again_at
        )
        return known.again_at if known is not None and is_kept else None

    async def check(self, instance: InstanceId, chat: RemoteChat) -> None:
        """Raise ``PermanentFailure`` with until when and how, if a chat is left in peace."""
        until = await self.holds_until(instance, chat.id)
        if until is not None:
            raise PermanentFailure(
                f"those who run {chat.name} have said no: it is not bridged before "
                f"{until:%d %B %H:%M} UTC, unless an admin of this bridge says so in a room: "
                f"{as_typed(f'bridge {instance} {chat.name}')}"
            )

    async def end(self, instance: InstanceId, chat: RemoteChatId) -> None:
        """Forget what was said of a chat: it is bridged anew."""
        await self._answers.forget(instance, chat)
