"""What logins are kept and told with."""

from dataclasses import dataclass

from bridge.core.doublepuppets import DoublePuppets
from bridge.core.outgoing import KeyOf
from bridge.core.permissions import Permissions
from bridge.core.privatechat import PrivateChats
from bridge.core.sender import Sender
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
