"""What logins are kept and told with."""

from dataclasses import dataclass

from bridge.core.host.privatechat import PrivateChats
from bridge.core.logins.doublepuppets import DoublePuppets
from bridge.core.outbox.outgoing import KeyOf
from bridge.core.outbox.sender import Sender
from bridge.core.permissions.permissions import Permissions
from bridge.sdk.ids import UserId
from bridge.storage.accounts import Accounts
from bridge.storage.audit import Audit
from bridge.storage.endedlogins import EndedLogins
from bridge.storage.portals import BotRooms
from bridge.storage.vault import Vault


@dataclass(slots=True, kw_only=True)
class Means:
    """All of it."""

    vault: Vault
    accounts: Accounts
    ended: EndedLogins
    told: BotRooms
    sender: Sender
    private_chats: PrivateChats
    permissions: Permissions
    key_of: KeyOf
    bot: UserId
    double_puppets: DoublePuppets
    audit: Audit
