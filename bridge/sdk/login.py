"""Accounts on a network, and how a person signs in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.sdk.ids import LoginId, UserId
from bridge.sdk.secret import Secret


class LoginKind(StrEnum):
    """Why a login exists."""

    AUTOMATIC = "automatic"
    """Made by itself for a Matrix user, on the first message."""
    PERSON = "person"
    """Linked by its owner."""
    RELAY = "relay"
    """The instance's own: it listens, and speaks for people who have none."""


class LoginState(StrEnum):
    """The closed set of what a login can be."""

    STARTING = "starting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    SIGN_IN_NEEDED = "sign-in needed"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One account: who owns it and what it signs in with."""

    id: LoginId
    kind: LoginKind
    owner: UserId | None
    name: str
    """What the owner is called in Matrix; a network may name the account after it."""
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing to ask for."""

    name: str
    label: str
    secret: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFlow:
    """One way to sign in: the same declaration for chat, web and API."""

    id: str
    title: str
    fields: tuple[Field, ...] = ()
