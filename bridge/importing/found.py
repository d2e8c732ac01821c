"""What an importer has found in another bridge, in words that all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.model import Follow, Members
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRoom:
    """A room tied to a chat."""

    network: str
    """As the other bridge calls it."""
    chat: str
    room: RoomId
    owner: UserId | None = None
    """Whose room it is, if it is one person's."""
    follow: Follow = Follow.TOPIC
    """As far as it did there; all, if the bridge made it for the chat."""
    members: Members | None = None
    """Who is shown in it; None: as the network has it here."""
    key: Secret | None = None
    """What lets the relay into the chat."""
    source: str = ""
    """Where the other bridge keeps that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPerson:
    """What somebody chose on a network, and signs in with."""

    network: str
    owner: UserId
    kept: Mapping[str, Secret] = field(repr=False)
    source: str = ""
    """Where the other bridge keeps it."""


@dataclass(slots=True)
class Found:
    """All of it."""

    rooms: list[FoundRoom] = field(default_factory=list)
    people: list[FoundPerson] = field(default_factory=list)
    unwanted: list[UserId] = field(default_factory=list)
    """Who is not to be bridged anywhere."""
    networks: list[str] = field(default_factory=list)
    """All that it has, as the other bridge calls them."""
    left: list[str] = field(default_factory=list)
    """What cannot be brought over, and why, a sentence each."""


def text_of(content: Mapping[str, Any], key: str) -> str:
    """Give a text of a foreign document; empty if there is none, or something else."""
    value = content.get(key)
    return value.strip() if isinstance(value, str) else ""


def mapping_of(content: object, key: str) -> dict[str, Any]:
    """Give a mapping of a foreign document; empty if there is none, or something else."""
    value = content.get(key) if isinstance(content, Mapping) else None
    return value if isinstance(value, dict) else {}
