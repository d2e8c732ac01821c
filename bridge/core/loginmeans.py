"""What logins are kept and told with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.core.audit import Audit
from bridge.core.doublepuppets import DoublePuppets
from bridge.core.outgoing import KeyOf
from bridge.core.permissions import Permissions
from bridge.core.privatechat import PrivateChats
from bridge.core.sender import Sender
from bridge.model import LoginRow
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.secret import Secret


class Vault(Protocol):
    """The part of the storage that keeps credentials."""

    async def put(
        self, subject: UserId | None, instance: InstanceId, record: str, value: bytes, *,
        login: LoginId | None = None,
    ) -> None: ...  # fmt: skip
    async def exchange(
        self, subject: UserId | None, instance: InstanceId, values: Mapping[str, bytes], *,
        gone: Sequence[str] = (), login: LoginId | None = None,
    ) -> None: ...  # fmt: skip
    async def delete(self, subject: UserId | None, instance: InstanceId, record: str) -> bool: ...
    async def secrets_of(self, login: LoginId) -> Mapping[str, Secret]: ...
    async def records_of(self, subject: UserId) -> Sequence[tuple[InstanceId, str]]: ...


class Accounts(Protocol):
    """The part of the storage that keeps logins."""

    async def link_login(self, instance: InstanceId, owner: UserId, name: str) -> LoginRow: ...
    async def personal_logins(self) -> Sequence[LoginRow]: ...
    async def prefer_login(self, row: LoginRow) -> None: ...
    async def logins_of(self, subject: UserId) -> Sequence[LoginRow]: ...
    async def remove_login(self, login: LoginId) -> None: ...


class Ended(Protocol):
    """Which logins were ended, kept where no restore undoes it."""

    def cover(self, row: LoginRow) -> bool: ...
    async def add(self, owner: UserId, instance: InstanceId, name: str) -> None: ...
    async def remove(self, owner: UserId, instance: InstanceId, name: str) -> None: ...


class Told(Protocol):
    """Remembers who was told what."""

    async def was_told(self, person: UserId, what: str) -> bool: ...
    async def note_told(self, person: UserId, what: str) -> None: ...
    async def forget_told(self, person: UserId, what: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class Means:
    """All of it."""

    vault: Vault
    accounts: Accounts
    ended: Ended
    told: Told
    sender: Sender
    private_chats: PrivateChats
    permissions: Permissions
    key_of: KeyOf
    bot: UserId
    double_puppets: DoublePuppets
    audit: Audit
