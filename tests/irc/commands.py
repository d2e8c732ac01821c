"""People on Matrix who give the network commands."""

from dataclasses import dataclass

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.commands.commands import COMMANDS
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat, Sender
from tests.irc.stage import Network, chat, user_id

BY_NAME = {one.name: one for one in COMMANDS}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the core hands to a command."""

    sender: Sender
    text: str
    chat: RemoteChat | None
    own: IrcClient | None
    relay: IrcClient


class Person:
    """Somebody on Matrix, with a client of their own, and perhaps in a bridged room."""

    def __init__(self, network: Network, name: str, relay: IrcClient, channel: str = "") -> None:
        self.client, self.host = network.puppet(name)
        self._sender = Sender(user_id=user_id(name), name=name)
        self._relay = relay
        self._chat = chat(channel) if channel else None

    async def say(self, said: str) -> str:
        """Give a command; return the answer."""
        name, _, text = said.partition(" ")
        return await BY_NAME[name].run(
            Call(sender=self._sender, text=text.strip(), chat=self._chat, own=self.client,
                 relay=self._relay)
        )  # fmt: skip

    async def refused(self, said: str) -> str:
        """Give a command that is refused; return why."""
        with pytest.raises(PermanentFailure) as refusal:
            await self.say(said)
        return str(refusal.value)
