"""The IRC connector: one configured network."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.client.importing import Adoption, read_former_chat
from bridge.networks.irc.client.signin import SASL, SERVER_PASSWORD, IrcLogin
from bridge.networks.irc.commands.commands import COMMANDS
from bridge.networks.irc.connections.examination import examine_network
from bridge.networks.irc.messages import reactions
from bridge.networks.irc.names import nicks, usernames
from bridge.networks.irc.names.targets import read_channel, read_nick
from bridge.networks.irc.network import banned, history, keys, renamed
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.services import may_be_service
from bridge.networks.irc.private import guidance, missed, optouts
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.acts import REDACTION
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Source, line
from bridge.sdk.capabilities import Capabilities, Level
from bridge.sdk.commands import NetworkCommand
from bridge.sdk.errors import ConfigError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteUser
from bridge.sdk.examination import Remark
from bridge.sdk.ids import RemoteChatId, RemoteUserId, UserId
from bridge.sdk.importing import Adopted, FormerAccount
from bridge.sdk.login import Login, LoginFlow
from bridge.sdk.module import Directory, Holds, Host, Kept, ModuleInfo, Store
from bridge.sdk.secret import Secret


class IrcConnector:
    """An IRC network, with its settings checked."""

    info: ClassVar[ModuleInfo] = ModuleInfo(
        id="irc",
        name="IRC",
        summary="Bridges rooms to IRC channels: one connection per Matrix user, or one for all.",
        docs="docs/reference/irc.md",
        removal="Unbridge its rooms, then remove the instance from `modules:`.",
        keeps=(
            Kept(
                prefix=nicks.STORE_PREFIX,
                holds=Holds.ID,
                purpose="which nick a Matrix user has on the network",
                keep_for=None,
            ),
            Kept(
                prefix=nicks.RESERVED_PREFIX,
                holds=Holds.ID,
                purpose="by which nicks a Matrix user signs in there",
                keep_for=None,
            ),
            Kept(
                prefix=usernames.STORE_PREFIX,
                holds=Holds.ID,
                purpose="which user names a Matrix user has and had on the network",
                keep_for=None,
                outlasts=banned.KEEP,
            ),
            Kept(
                prefix=usernames.CHANGED_PREFIX,
                holds=Holds.ID,
                purpose="that a Matrix user has just changed the user name, which is done rarely",
                keep_for=usernames.CHANGE_EVERY,
                outlasts=usernames.CHANGE_EVERY,
            ),
            Kept(
                prefix=history.STORE_PREFIX,
                holds=Holds.NONE,
                purpose="up to which message a channel was heard, where the server has a memory",
                keep_for=None,
            ),
            Kept(
                prefix=missed.STORE_PREFIX,
                holds=Holds.ID,
                purpose="up to which message a Matrix user has heard what is said to them alone, "
                "where the server has a memory",
                keep_for=missed.KEEP,
            ),
            Kept(
                prefix=banned.STORE_PREFIX,
                holds=Holds.ID,
                purpose="whom a channel's ban means, so that it can be lifted when they are gone; "
                "masks and nicks as hashes",
                keep_for=banned.KEEP,
            ),
            Kept(
                prefix=renamed.STORE_PREFIX,
                holds=Holds.NONE,
                purpose="that a bridged channel has another name now, until it is unbridged",
                keep_for=None,
            ),
            Kept(
                prefix=optouts.STORE_PREFIX,
                holds=Holds.ID,
                purpose="by which account a nick was opted out, both as hashes",
                keep_for=None,
            ),
            Kept(
                prefix=reactions.STORE_PREFIX,
                holds=Holds.CONTENT,
                purpose="with what a Matrix user reacted, where it is taken back by its name",
                keep_for=reactions.KEEP,
            ),
        ),
    )
    settings: ClassVar[type[BaseModel]] = IrcSettings
    commands: ClassVar[Sequence[NetworkCommand]] = COMMANDS

    def __init__(self, settings: BaseModel) -> None:
        if not isinstance(settings, IrcSettings):
            raise ConfigError("these are no settings of the irc module")
        self._settings = settings
        self._network = Network(settings)
        self._told: tuple[Isupport | None, frozenset[str], bool] | None = None
        self._capabilities: Capabilities | None = None

    async def examine(self) -> Sequence[Remark]:
        """Connect to each server, and leave without signing in."""
        return await examine_network(self._settings)

    def login_flows(self) -> Sequence[LoginFlow]:
        """A person may link an account; a password goes nowhere in the clear."""
        return (SASL, SERVER_PASSWORD) if self._settings.takes_logins else ()

    def begin_login(self, flow: str, owner: UserId) -> IrcLogin:
        """Make what asks a person for account and password."""
        return IrcLogin(flow, owner, self._network)

    def capabilities(self, chat: RemoteChatId) -> Capabilities:
        """Say what the network can do, as far as its servers have told."""
        network = self._network
        told = (network.isupport, network.offered, network.acknowledges)
        if self._capabilities is None or told != self._told:  # It is asked with every message.
            self._told, self._capabilities = told, self._read_capabilities()
        return self._capabilities

    def _read_capabilities(self) -> Capabilities:
        settings, offers = self._settings, self._network.offers
        limits = self._network.isupport or Isupport()
        has_tags = settings.mode == "puppets" and offers("message-tags")
        reacts = has_tags and limits.allows_reactions
        types = has_tags and settings.typing and limits.allows_tag("typing")
        said = Level.FALLBACK if settings.reactions == "text" else Level.DROP
        told = Level.FALLBACK if settings.redactions == "text" else Level.DROP
        return Capabilities(
            puppets=settings.mode == "puppets",
            acknowledges=self._network.acknowledges,
            reactions=Level.PARTIAL if reacts else said,
            redactions=Level.PARTIAL if offers(REDACTION) or reacts else told,
            typing=Level.FULL if types else Level.DROP,
            limits={"lines": settings.most_lines, "quote_after": settings.quote_after_seconds},
        )

    def connect(self, login: Login, host: Host) -> IrcClient:
        """Make a login's client."""
        return IrcClient(login, host, self._network)

    async def foretell_name(self, owner: UserId, name: str) -> str:
        """Say which nick a puppet would ask for; whether a stranger has it shows on connecting."""
        return await self._network.foretell(owner, name)

    async def forget(self, person: UserId) -> None:
        """Forget a person's nicks, and which bans are about them.

        The user names stay for a time: networks ban by them, and the bridge checks the bans of
        every name that somebody has had.
        """
        await self._network.forget(person)

    def needs_consent(self, chat: RemoteChat) -> bool:
        """A channel belongs to its operators, unless the whole network is the admin's own."""
        return not self._settings.own_network

    def wishes(self) -> Sequence[tuple[str, str]]:
        """What people may type to the relay at any time, and what comes of each."""
        return guidance.typed(self._network.relay_nick)

    def read_former_chat(self, text: str) -> RemoteChat:
        """Read a channel of another bridge, while no server can be asked."""
        return read_former_chat(text)

    def adopt_key(self, chat: RemoteChat, key: Secret) -> tuple[str, Secret]:
        """Say how the relay's login keeps a channel's key."""
        self._network.check_key(key)
        return keys.PREFIX + chat.id, key

    async def adopt(self, account: FormerAccount, store: Store) -> Adopted:
        """Take over a person's nick, user name and sign-in from another bridge."""
        adoption = Adoption(account, store, self._network, signs_in=bool(self.login_flows()))
        return await adoption.run()

    @property
    def directory(self) -> Directory:
        """The fields of third-party lookups."""
        return Directory(
            protocol="irc",
            chat_field="channel",
            user_field="nick",
            patterns={
                "channel": (r"[#&+!][^\s,:]+", "#channel"),
                "nick": (r"[^\s,:!@]+", "nick"),
            },
        )

    async def find_chat(self, text: str) -> RemoteChat:
        """Read a channel's name. Whether the channel exists is not asked: joining shows it."""
        return read_channel(text, self._limits())

    async def find_user(self, text: str) -> RemoteUser:
        """Read a nick."""
        name = read_nick(text)
        return RemoteUser(id=RemoteUserId(self._limits().fold(name)), name=name)

    async def is_there(self, user: RemoteUser) -> bool | None:
        """Have the relay ask the server whether somebody has the nick; of services, which need no
        nick, nobody knows. Raises a ``DeliveryError`` if it does not answer."""
        relay, nickserv = self._network.relay, self._settings.nickserv or ""
        if relay is None or relay.has_ended or may_be_service(Source(user.name), nickserv):
            return None
        answer = await relay.ask(line("ISON", user.name), wanted={replies.ISON})
        there = [nick for one in answer.lines for nick in one.param(-1).split()]
        return user.id in map(self._network.fold, there) if answer.lines else None

    def direct_chat(self, user: RemoteUser) -> RemoteChat:
        """The chat with a nick. Raises ``PermanentFailure`` where the settings let nobody."""
        if not self._settings.private_messages:
            raise PermanentFailure("private messages are not carried there")
        return RemoteChat(id=RemoteChatId(user.id), name=user.name)

    def _limits(self) -> Isupport:
        # How names compare is known only from the server. A guess could make one channel two.
        if self._network.isupport is None:
            raise TemporaryFailure(
                "The IRC network has not been reached yet; try again in a moment.", retry_after=5
            )
        return self._network.isupport
