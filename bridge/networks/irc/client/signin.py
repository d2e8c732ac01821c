"""How a person links an account on IRC: one step, and the server is asked whether it is right."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from bridge.networks.irc.client.naming import gateway_of, known_address_of, realname_of, source_of
from bridge.networks.irc.connections.dial import Way, connect
from bridge.networks.irc.connections.gate import Urgency
from bridge.networks.irc.connections.ident import listening
from bridge.networks.irc.names.nicks import NICK_RULE, base_of, is_nick
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol.endings import BannedError
from bridge.networks.irc.protocol.handshake import Identity
from bridge.networks.irc.settingvalues import read_listen
from bridge.networks.irc.wire import clean
from bridge.sdk.errors import ModuleError, PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.login import Ask, Field, Finished, LoginFlow
from bridge.sdk.secret import Secret

SASL = LoginFlow(id="sasl", title="An account with the network's services (SASL)")
SERVER_PASSWORD = LoginFlow(id="server_password", title="A password of the server's own")

_ASKED = {
    SASL.id: Ask(
        text="Sign in to your account on this IRC network.",
        fields=(
            Field(name="account", label="Account"),
            Field(name="password", label="Password", secret=True),
            Field(name="nick", label="Nick, if it is another than the account", required=False),
        ),
    ),
    SERVER_PASSWORD.id: Ask(
        text="The password that the IRC server itself asks of you.",
        fields=(
            Field(name="server_password", label="Server password", secret=True),
            Field(name="nick", label="Nick, if you want a certain one", required=False),
        ),
    ),
}


class IrcLogin:
    """One person signing in (``sdk.LoginProcess``)."""

    def __init__(self, flow: str, owner: UserId, network: Network) -> None:
        self._flow = flow
        self._owner = owner
        self._network = network

    async def start(self) -> Ask:
        """Ask for account, password and nick."""
        return _ASKED[self._flow]

    async def submit(self, answers: Mapping[str, Secret]) -> Finished:
        """Sign in to a server once, to see that it lets us in, and leave it.

        Raises ``LoginRequired`` or ``ModuleNotReady`` with why it does not.
        """
        for field in _ASKED[self._flow].fields:
            given = answers.get(field.name)
            if given is not None and clean(given.reveal()) != given.reveal():
                raise PermanentFailure(
                    f"The {field.label.partition(',')[0].lower()} holds a line break or a NUL, "
                    "which no IRC line can carry."
                )
        nick = answers.get("nick")
        if nick is not None and not is_nick(nick.reveal()):
            raise PermanentFailure(f"That is no IRC nick: {NICK_RULE}.")
        if nick is not None and self._network.is_relays(nick.reveal()):
            raise PermanentFailure("That nick is this bridge's own here; choose another.")
        await self._network.load_nicks()
        if nick is not None and self._network.is_anothers(nick.reveal(), self._owner):
            raise PermanentFailure("That nick is kept for somebody else here; choose another.")
        account = answers.get("account")
        wanted, name = nick or account, account or nick
        await self._try("" if wanted is None else wanted.reveal(), answers)
        called = base_of(self._owner, "") if name is None else name.reveal()
        return Finished(name=called, secrets=answers)

    async def _try(self, wanted: str, answers: Mapping[str, Secret]) -> None:
        """Connect as the login will, in its turn, from its address and with what it shows."""
        network, owner, settings = self._network, self._owner, self._network.settings
        username, account = await network.assign_username(owner), answers.get("account")
        address = known_address_of(settings, owner)
        identity = Identity(
            nicks=network.nicks_for(owner, wanted),
            username=username,
            realname=realname_of(settings, owner),
            password=answers.get("server_password", settings.password),
            account=None if account is None else account.reveal(),
            account_password=answers.get("password"),
            nickserv=settings.nickserv,
            gateway=gateway_of(settings, owner),
            personal=True,
        )
        network.doors.check(address)
        try:
            async with network.gate.passage(Urgency.SPEAKING), AsyncExitStack() as stack:
                network.doors.check(address)
                ident = None
                if settings.ident_listen is not None:
                    ident = await stack.enter_async_context(
                        listening(read_listen(settings.ident_listen))
                    )
                way = Way(flood=network.flood, source=source_of(settings, owner), ident=ident)
                await connect(stack, settings, identity, network.rotation, way)
                network.doors.enter(owner, address)
        except ModuleError as error:
            network.heed(error)
            if isinstance(error, BannedError):
                network.doors.refuse(owner, address, error)
            raise
        finally:
            network.doors.leave(owner)
