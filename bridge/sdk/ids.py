"""Opaque identifiers. Each is a string; the types keep them from being swapped."""

from typing import NewType

InstanceId = NewType("InstanceId", str)
"""One configured module, as named in the config: ``[a-z][a-z0-9]{0,15}``."""

RemoteChatId = NewType("RemoteChatId", str)
"""A chat on a network, case-mapped by its module once, so that equal chats have equal ids."""

RemoteUserId = NewType("RemoteUserId", str)
"""A person on a network, case-mapped by its module once."""

RemoteMessageId = NewType("RemoteMessageId", str)
"""A message on a network, unique within its chat. One of more than 1000 bytes is not
remembered: the message crosses, but nothing that answers, changes or deletes it is about it."""

LoginId = NewType("LoginId", int)
"""One person's (or the instance's own) account on a network."""

UserId = NewType("UserId", str)
"""A Matrix user id, ``@localpart:server``."""

RoomId = NewType("RoomId", str)
"""A Matrix room id. Room version 12 has no server part: never split it."""

EventId = NewType("EventId", str)
"""A Matrix event id."""
