"""Taking over what another bridge kept: the words for it, and what a connector does with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import UserId
from bridge.sdk.module import Store
from bridge.sdk.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerAccount:
    """What another bridge kept of a Matrix user on this network."""

    owner: UserId
    kept: Mapping[str, Secret] = field(repr=False)
    """By the names that the module gives such things: ``nick``, ``account``, ``password``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What a connector takes over of a :class:`FormerAccount`."""

    choices: tuple[str, ...] = ()
    """What it put into the store, in a few words each."""
    login: str = ""
    """What the person's login is called; empty if there is nothing to sign in with."""
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    """What it signs in with, as ``Finished.secrets``."""
    beside: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    """What the login keeps beside that, as by ``Host.keep_secret``."""
    left: tuple[str, ...] = ()
    """What stays behind and why, a sentence each, without a secret."""


@runtime_checkable
class TakesOver(Protocol):
    """A connector that knows what to make of another bridge's chats and accounts.

    Its network is not at hand meanwhile: nothing connects.
    """

    def read_former_chat(self, text: str) -> RemoteChat:
        """Read a chat's name. Raises ``PermanentFailure`` if it is none, or if only the network
        could tell which chat it is."""
        ...

    async def adopt(self, account: FormerAccount, store: Store) -> Adopted:
        """Put what the person chose into the store, and give what there is to sign in with.

        What the store holds already stays as it is. May be called again for the same person.
        """
        ...
