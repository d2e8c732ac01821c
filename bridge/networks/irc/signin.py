"""How a person links an account on IRC: one step, and the server is asked whether it is right."""

from collections.abc import Mapping

from bridge.networks.irc.dial import Way, connect
from bridge.networks.irc.handshake import Identity
from bridge.networks.irc.network import Network
from bridge.networks.irc.nicks import SHORTEST_LIMIT, base_of, candidates, is_nick
from bridge.networks.irc.wire import clean
from bridge.sdk.errors import PermanentFailure
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
            raise PermanentFailure(
                "That is no IRC nick: letters, digits and []\\`_^{|}-, no digit or hyphen first."
            )
        account = answers.get("account")
        called = nick or account
        name = called.reveal() if called is not None else base_of(self._owner, "")
        base = name if is_nick(name) else base_of(self._owner, "")
        settings = self._network.settings
        username = await self._network.assign_username(self._owner)

        def identity() -> Identity:
            return Identity(
                nicks=candidates(base, SHORTEST_LIMIT),
                username=username,
                realname=self._owner,
                password=answers.get("server_password", settings.password),
                account=None if account is None else account.reveal(),
                account_password=answers.get("password"),
                nickserv=settings.nickserv,
                personal=True,
            )

        self._network.doors.check(None)
        way = Way(flood=(settings.flood_burst, settings.flood_rate))
        async with connect(settings, identity, self._network.rotation, way):
            pass
        return Finished(name=name if account is None else account.reveal(), secrets=answers)
