"""What somebody typed, read as a chat or a person of a network: the module's word, in its time."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from bridge.core.host.instances import Instance
from bridge.core.lanes.cancellation import outliving_module
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteUser
from bridge.sdk.module import FindsChats
from bridge.sdk.people import LooksForPeople

_FIND_SECONDS = 10.0
_ASK_SECONDS = 5.0

Found = TypeVar("Found", RemoteChat, RemoteUser)


async def find_chat(instance: Instance, text: str, limit: float = _FIND_SECONDS) -> RemoteChat:
    """Have the module read a text as a chat, in so many seconds.

    Raises a ``DeliveryError``, whatever it does.
    """
    connector = instance.connector
    if not isinstance(connector, FindsChats):
        raise PermanentFailure(f"{instance.name} has no chats to bridge by name")
    return await _read(instance, partial(connector.find_chat, text), "a chat", limit)


async def find_user(instance: Instance, text: str, limit: float = _FIND_SECONDS) -> RemoteUser:
    """The same for a person."""
    connector = instance.connector
    if not isinstance(connector, FindsChats):
        raise PermanentFailure(f"nobody is found by name on {instance.name}")
    return await _read(instance, partial(connector.find_user, text), "a person", limit)


async def is_there(instance: Instance, user: RemoteUser) -> bool:
    """Whether the person is on the network; also true where that cannot be asked in time."""
    connector = instance.connector
    if not isinstance(connector, LooksForPeople):
        return True
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            with outliving_module("look for a person"):
                return await connector.is_there(user) is not False
    except (TimeoutError, DeliveryError):
        return True


async def _read(
    instance: Instance, read: Callable[[], Awaitable[Found]], whose: str, limit: float
) -> Found:
    try:
        async with asyncio.timeout(limit):
            with outliving_module(f"read the name of {whose}"):
                return await read()
    except TimeoutError as error:
        raise TemporaryFailure(f"{instance.name} did not answer in time") from error
