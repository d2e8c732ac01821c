"""People on Matrix who give the network commands."""

from dataclasses import dataclass

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.commands.commands import COMMANDS
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat, Sender
from bridge.sdk.login import LoginKind
from tests.irc.stage import Network, chat, user_id

BY_NAME = {one.name: one for one in COMMANDS}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the core hands to a command."""

    sender: Sender
    text: str
    chat: RemoteChat | None
    own: IrcClient | None
    own_trouble: str
    relay: IrcClient


async def say(
    said: str, relay: IrcClient, own: IrcClient | None = None, channel: str = "", *,
    sender: str = "Alice", trouble: str = "",
) -> str:  # fmt: skip
    """Give a command, in the channel's room if one is named; return the answer."""
    name, _, text = said.partition(" ")
    return await BY_NAME[name].run(
        Call(
            sender=Sender(user_id=user_id(sender), name=sender), text=text.strip(),
            chat=chat(channel) if channel else None, own=own, relay=relay,
            own_trouble=trouble,
        )
    )  # fmt: skip


async def refused(
    said: str, relay: IrcClient, channel: str, own: IrcClient | None = None, *,
    sender: str = "Alice",
) -> str:  # fmt: skip
    """Give a command that is refused; return why."""
    with pytest.raises(PermanentFailure) as refusal:
        await say(said, relay, own, channel, sender=sender)
    return str(refusal.value)


class Person:
    """Somebody on Matrix, with a client of their own, and perhaps in a bridged room."""

    def __init__(
        self, network: Network, name: str, relay: IrcClient, channel: str = "",
        kind: LoginKind = LoginKind.AUTOMATIC,
    ) -> None:  # fmt: skip
        self.client, self.host = network.puppet(name, kind)
        self._name, self._relay, self._channel = name, relay, channel

    async def say(self, said: str) -> str:
        """Give a command; return the answer."""
        return await say(said, self._relay, self.client, self._channel, sender=self._name)

    async def refused(self, said: str) -> str:
        """Give a command that is refused; return why."""
        return await refused(said, self._relay, self._channel, self.client, sender=self._name)
