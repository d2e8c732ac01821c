"""Accounts on a network, and how a person signs in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from bridge.sdk.ids import LoginId, UserId
from bridge.sdk.secret import Secret


class LoginKind(StrEnum):
    """Why a login exists."""

    AUTOMATIC = "automatic"
    """Made automatically for a Matrix user, on the first message."""
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
    """One way to sign in, to choose by its title. A :class:`LoginProcess` goes through it."""

    id: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The person is to fill in something."""

    text: str
    """What for, in a sentence."""
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """The person is to open a link, or to type or scan a code, elsewhere."""

    text: str
    """What to do with it, in a sentence."""
    link: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The person has nothing to do here but to wait."""

    text: str
    """What for, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """It worked: what the login signs in with from now on."""

    name: str
    """What the account is called on the network. Signing in to it again renews the login."""
    secrets: Mapping[str, Secret] = field(repr=False)
    """Kept in the vault, and handed to the client as ``Login.secrets``."""


Step = Ask | Show | Wait


class LoginProcess(Protocol):
    """One person signing in. It never learns whether by chat, by a page or by a program.

    Hold nothing open between two calls: people who give up say nothing.
    """

    async def start(self) -> Step:
        """The first step. Raises a ``ModuleError`` or ``DeliveryError`` with the reason."""
        ...

    async def submit(self, answers: Mapping[str, Secret]) -> Step | Finished:
        """Go on from the step before.

        After ``Ask``, with what was filled in: each required field, of the others those that are
        not empty. After ``Show`` and ``Wait``, with nothing: return when the person has done it;
        cancelled when the person gives up. Raises a ``ModuleError`` or ``DeliveryError``, whose
        sentence the person reads, without a secret. After ``Ask`` the person may then answer the
        same step again; else it is over.
        """
        ...


@runtime_checkable
class SignsIn(Protocol):
    """A connector whose ``login_flows()`` are not empty."""

    def begin_login(self, flow: str, owner: UserId) -> LoginProcess:
        """Make what goes through the flow of that id, for that Matrix user."""
        ...


@runtime_checkable
class LogsOut(Protocol):
    """A client that can end its session on the network, not only its connection."""

    async def log_out(self) -> None:
        """Have the network forget what we sign in with. Raises a ``DeliveryError``."""
        ...
