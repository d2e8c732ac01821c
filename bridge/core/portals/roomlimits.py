"""How many rooms a network may have here, and how fast anybody may have them made."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from bridge.model import Clock, InstanceRules
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId

log = logging.getLogger(__name__)

_HOUR = timedelta(hours=1)


class RoomLimits:
    """Asked before a room is made for a chat or tied to it.

    Aliases are resolved for everybody on any homeserver, and nobody learns for whom.
    """

    def __init__(
        self,
        rules: Callable[[InstanceId], InstanceRules],
        chats: Callable[[InstanceId], Sequence[RemoteChat]],
        clock: Clock,
    ) -> None:
        """``chats`` gives what is bridged of an instance."""
        self._rules = rules
        self._chats = chats
        self._clock = clock
        self._coming: set[tuple[InstanceId, RemoteChatId]] = set()
        """Chats whose rooms are being made or tied."""
        self._by_alias: dict[InstanceId, list[datetime]] = {}
        """When rooms were made by alias, within the hour."""
        self._warned: dict[tuple[InstanceId, type[DeliveryError]], datetime] = {}

    def check(self, instance: InstanceId, chat: RemoteChatId, *, by_alias: bool = False) -> None:
        """Raise a ``DeliveryError`` with the reason if there may be no room for the chat now."""
        error = self._refusal(instance, chat, by_alias=by_alias)
        if error is None:
            return
        key, now = (instance, type(error)), self._clock.now()
        if key not in self._warned or now - self._warned[key] > _HOUR:
            self._warned[key] = now
            log.warning("no room is made: %s", error,
                        extra={"event": "too_many_rooms", "instance": instance})  # fmt: skip
        raise error

    def may_have(self, instance: InstanceId, chat: RemoteChatId) -> bool:
        """Whether an alias of the chat would have a room made."""
        return self._refusal(instance, chat, by_alias=True) is None

    @contextmanager
    def place(
        self, instance: InstanceId, chat: RemoteChatId, *, by_alias: bool = False
    ) -> Iterator[None]:
        """Held while a room is made for the chat, or tied to it. Raises as :meth:`check` does."""
        self.check(instance, chat, by_alias=by_alias)
        now, coming = self._clock.now(), (instance, chat)
        if by_alias:
            self._lately(instance).append(now)
        self._coming.add(coming)
        try:
            yield
        except BaseException:
            if by_alias and now in (made := self._lately(instance)):
                made.remove(now)
            raise
        finally:
            self._coming.discard(coming)

    def _refusal(
        self, instance: InstanceId, chat: RemoteChatId, *, by_alias: bool
    ) -> DeliveryError | None:
        rules = self._rules(instance)
        taken = {one.id for one in self._chats(instance)}
        taken |= {coming for name, coming in self._coming if name == instance}
        if len(taken - {chat}) >= rules.most_rooms:
            return PermanentFailure(
                f"{instance} has as many bridged rooms as the settings of this bridge allow "
                f"({rules.most_rooms}); whoever runs it can allow more (most_rooms)"
            )
        if by_alias and len(self._lately(instance)) >= rules.alias_rooms_hourly:
            return TemporaryFailure(
                f"as many rooms of {instance} were made by alias within the hour as the settings "
                f"of this bridge allow ({rules.alias_rooms_hourly}; alias_rooms_hourly)"
            )
        return None

    def _lately(self, instance: InstanceId) -> list[datetime]:
        now = self._clock.now()  # It may have been set back since then.
        found = self._by_alias[instance] = [
            at for at in self._by_alias.get(instance, ()) if now - _HOUR < at <= now
        ]
        return found
