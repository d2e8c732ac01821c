"""Keys of chats, carried over into the vault: what the relay's login keeps from then on."""

from collections.abc import Mapping

from bridge.core.logins.logins import record_of
from bridge.importing.found import FoundRoom
from bridge.sdk.chatkeys import AdoptsKeys
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, LoginId
from bridge.sdk.login import LoginKind
from bridge.sdk.secret import Secret
from bridge.storage.accounts import Accounts
from bridge.storage.keys import KeyLost
from bridge.storage.vault import Vault, to_bytes


class ChatKeys:
    """Puts them there; one that is there already stays as it is."""

    def __init__(
        self, connectors: Mapping[InstanceId, object], accounts: Accounts, vault: Vault,
        *, dry_run: bool,
    ) -> None:  # fmt: skip
        self._connectors = connectors
        self._accounts = accounts
        self._vault = vault
        self._dry_run = dry_run
        self.left: list[str] = []
        """Which stay behind and why, a sentence each."""
        self.sealed: dict[str, frozenset[Secret]] = {}
        """By its source what lies in the vault now."""

    async def bring(self, found: FoundRoom, instance: InstanceId, chat: RemoteChat) -> bool:
        """Bring the room's key over, if it has one; whether that is new.

        Raises ``TemporaryFailure`` when the database is away.
        """
        if found.key is None:
            return False
        try:
            name, key = self._adopt(instance, chat, found.key)
            return await self._keep(found, instance, name, key)
        except PermanentFailure as error:  # One of the vault that does not open, too.
            self.left.append(f"{chat.name} on {instance}: its key: {str(error).rstrip('.')}")
        return False

    def _adopt(self, instance: InstanceId, chat: RemoteChat, key: Secret) -> tuple[str, Secret]:
        connector = self._connectors[instance]
        if not isinstance(connector, AdoptsKeys):
            raise PermanentFailure(f"the chats of {instance} have no keys")
        return connector.adopt_key(chat, key)

    async def _keep(self, found: FoundRoom, instance: InstanceId, name: str, key: Secret) -> bool:
        login = await self._find_relay(instance)
        if login is None:  # Nothing was ever kept for it.
            return True
        record = record_of(login, name, beside=True)
        try:
            known = await self._vault.find(None, instance, record)
        except KeyLost:
            known = None
        if known is None and not self._dry_run:
            await self._vault.exchange(None, instance, {record: to_bytes(key)}, login=login)
        if found.source and known in {None, to_bytes(key)} and not self._dry_run:
            self.sealed[found.source] = frozenset({key})
        return known is None

    async def _find_relay(self, instance: InstanceId) -> LoginId | None:
        """The relay's login, made if there is none; None if none is to be made."""
        if not self._dry_run:
            return (await self._accounts.get_or_add_login(instance, LoginKind.RELAY, None)).id
        rows = await self._accounts.logins(instance)
        return next((row.id for row in rows if row.kind is LoginKind.RELAY), None)
