"""What another IRC bridge kept, taken over: a person's nick, user name and sign-in."""

from bridge.networks.irc.client import certfp
from bridge.networks.irc.names.nicks import base_of, is_nick
from bridge.networks.irc.names.targets import read_channel
from bridge.networks.irc.names.usernames import is_username
from bridge.networks.irc.network.keepsakes import (
    ACCOUNT,
    CERTIFICATE,
    NICK,
    PASSWORD,
    SERVER_PASSWORD,
)
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import clean
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.importing import Adopted, FormerAccount
from bridge.sdk.module import Store
from bridge.sdk.secret import Secret

USERNAME = "username"
_MAPPINGS = ("ascii", "rfc1459", "rfc1459-strict", "rfc8265", "rfc7613")


def read_former_chat(text: str) -> RemoteChat:
    """Read a channel whose name is one chat under every rule by which servers compare names.

    Raises ``PermanentFailure`` for another.
    """
    found = {
        read_channel(text, Isupport().with_tokens([f"CASEMAPPING={rule}"])) for rule in _MAPPINGS
    }
    if len(found) > 1:
        raise PermanentFailure(
            "only the network tells how this name is compared; bridge the channel by hand"
        )
    return found.pop()


class Adoption:
    """One person's former account, on its way over."""

    def __init__(
        self, account: FormerAccount, store: Store, network: Network, *, signs_in: bool
    ) -> None:
        self._owner = account.owner
        self._kept = account.kept
        self._store = store
        self._network = network
        self._signs_in = signs_in
        self._choices: list[str] = []
        self._left: list[str] = []

    async def run(self) -> Adopted:
        """Take over what fits."""
        nick = await self._nick()
        await self._username()
        secrets, beside = self._sign_in()
        name = ""
        if secrets or beside:
            account = secrets.get(ACCOUNT)
            name = nick or base_of(self._owner, "") if account is None else account.reveal()
            if nick:
                secrets[NICK] = Secret(nick)
        return Adopted(
            choices=tuple(self._choices), login=name, secrets=secrets, beside=beside,
            left=tuple(self._left),
        )  # fmt: skip

    async def _nick(self) -> str:
        """Keep the nick, unless one is kept; give it if it is the person's own now."""
        wanted = self._read(NICK)
        if not wanted:
            return ""
        if not is_nick(wanted):
            self._left.append("the nick, which not every server takes")
            return ""
        limits, nicks = Isupport(), self._network.nicks(self._store)
        own = await nicks.find(self._owner)
        if own is not None:
            if own != wanted:
                self._left.append(f"the nick {wanted}: {own} is kept already")
            return own
        if limits.fold(wanted) == limits.fold(self._network.settings.nick):
            self._left.append(f"the nick {wanted}: it is the relay's")
            return ""
        try:
            await nicks.choose(self._owner, wanted, limits)
        except PermanentFailure as error:
            self._left.append(f"the nick: {str(error).rstrip('.')}")
            return ""
        self._choices.append(f"the nick {wanted}")
        return wanted

    async def _username(self) -> None:
        wanted = self._read(USERNAME).lower()
        usernames = self._network.usernames(self._store)
        own = (await usernames.load()).get(self._owner)
        if not wanted or wanted == own:
            return
        if own is not None:
            self._left.append(f"the user name {wanted}: {own} is kept already")
        elif not is_username(wanted):
            self._left.append(
                "the user name: it has more than 10 characters, or others than letters and digits"
            )
        else:
            try:
                await usernames.choose(self._owner, wanted, Isupport())
            except PermanentFailure:
                self._left.append(f"the user name {wanted}: it is somebody else's here")
            else:
                self._choices.append(f"the user name {wanted}")

    def _sign_in(self) -> tuple[dict[str, Secret], dict[str, Secret]]:
        secrets: dict[str, Secret] = {}
        for names in ((ACCOUNT, PASSWORD), (SERVER_PASSWORD,)):
            if all(self._read(name) for name in names):
                secrets |= {name: self._kept[name] for name in names}
        pem = self._read(CERTIFICATE)
        if not self._signs_in and (secrets or pem):
            self._left.append(
                "what it signs in with: here nobody links an account (`mode: relay`, or a server "
                "without `tls`)"
            )
            return {}, {}
        if any(clean(one.reveal()) != one.reveal() for one in secrets.values()):
            self._left.append("what it signs in with: no IRC line can carry it")
            secrets.clear()
        if pem and not certfp.is_whole(pem.encode()):
            self._left.append(
                "the certificate: it is not whole, or its key has a password; say "
                f"`{as_typed('certfp new')}` for another"
            )
            pem = ""
        return secrets, {CERTIFICATE: Secret(pem)} if pem else {}

    def _read(self, name: str) -> str:
        secret = self._kept.get(name)
        return "" if secret is None else secret.reveal()
