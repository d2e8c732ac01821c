"""What an admin sets for one IRC network."""

from ipaddress import IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from bridge.networks.irc.format import ANY_COLOUR
from bridge.networks.irc.names.addresses import LONGEST_PREFIX
from bridge.networks.irc.names.nicks import MOST_AROUND, NAME, is_form
from bridge.networks.irc.protocol.socks import LONGEST
from bridge.networks.irc.settingvalues import (
    AnyNick,
    Host,
    OwnNick,
    SecretText,
    Service,
    one_line,
    read_listen,
)
from bridge.sdk.secret import Secret

ASK: dict[str, JsonValue] = {"ask": True}
"""Marks what `trestle init` asks for, though it has a default."""


_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ProxySettings(_Strict):
    """What connects us to a server (SOCKS 5), Tor say."""

    host: Host = Field(description="Host name or address of the proxy.")
    port: int = Field(default=1080, ge=1, le=65535, description="Tor has 9050 as a rule.")
    username: str | None = Field(
        default=None, min_length=1,
        description="Where the proxy wants one; it crosses to the proxy in the clear, as the "
        "password does.",
    )  # fmt: skip
    password: SecretText | None = Field(default=None, description="That user's password.")

    @property
    def sign_in(self) -> tuple[str, Secret] | None:
        """User name and password, if it is to be told any."""
        return (self.username, self.password) if self.username and self.password else None

    @model_validator(mode="after")
    def _check_sign_in(self) -> "ProxySettings":
        if bool(self.username) != bool(self.password and self.password.reveal()):
            raise ValueError("a proxy's username and password go together: give both or neither")
        words = (self.username or "", self.password.reveal() if self.password else "")
        if any(len(one.encode()) > LONGEST for one in words):
            raise ValueError(f"a proxy's username and password have at most {LONGEST} bytes each")
        return self


class ServerSettings(_Strict):
    """One server of the network."""

    host: Host = Field(description="Host name or address.")
    port: int = Field(default=0, ge=0, le=65535, description="0: 6697 with TLS, 6667 without.")
    tls: bool = Field(default=True, description="Encrypt the connection.", json_schema_extra=ASK)
    tls_verify: bool = Field(
        default=True,
        description="Check the server's certificate. Without it anybody in between can read "
        "and change everything: only for tests.",
    )
    ca_file: Path | None = Field(
        default=None, description="Certificates to trust instead of the system's (PEM)."
    )

    proxy: ProxySettings | None = Field(
        default=None,
        description="A SOCKS 5 proxy that connects us to this server, and looks its name up.",
    )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to."""
        return self.host, self.port or (6697 if self.tls else 6667)

    @property
    def is_private(self) -> bool:
        """Whether nobody in between reads what we write."""
        if self.tls or self.proxy is None:
            return self.tls or self.host in _THIS_MACHINE
        # What is an onion's, Tor encrypts from here to there.
        return self.is_onion and self.proxy.host in _THIS_MACHINE

    @property
    def is_onion(self) -> bool:
        """Whether it is behind Tor, where no other resolver has its name (RFC 7686)."""
        return self.host.lower().rstrip(".").endswith(".onion")

    @model_validator(mode="after")
    def _check_way(self) -> "ServerSettings":
        if self.is_onion and self.proxy is None:
            raise ValueError(f"{self.host} is reached by Tor alone: name its `proxy`")
        return self

    @property
    def label(self) -> str:
        """The server's name in sentences."""
        return f"{self.host}:{self.address[1]}"


class WebircSettings(_Strict):
    """What makes a server believe us about who is behind a connection (``WEBIRC``)."""

    password: SecretText = Field(description="The server's password for gateways.")
    gateway: str = Field(
        default="trestle", pattern=r"^[A-Za-z0-9.-]+$", description="What the gateway is called."
    )

    @field_validator("password")
    @classmethod
    def _check_one_word(cls, value: Secret) -> Secret:
        text = value.reveal()
        if not text or " " in text or text.startswith(":"):
            raise ValueError("it must be one word without spaces, and not begin with a colon")
        return value


class IrcSettings(_Strict):
    """One IRC network."""

    servers: tuple[ServerSettings, ...] = Field(
        min_length=1, description="The network's servers, tried in this order."
    )
    own_network: bool = Field(
        default=False,
        description="You run this network, so that no channel operator has to be asked before "
        "a channel is bridged.",
        json_schema_extra=ASK,
    )
    contact: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Who answers for the bridge: a mail or web address, a nick. Told to those who "
        "run channels, in real names and to whoever asks for a connection's VERSION.",
        json_schema_extra=ASK,
    )
    show_matrix_ids: bool = Field(
        default=True,
        description="Name the Matrix id in the real name of each Matrix user's connection, and to "
        "whoever asks for its VERSION. Many networks require it.",
    )
    mode: Literal["puppets", "relay"] = Field(
        default="puppets",
        description="puppets: one connection per Matrix user, named after the user. "
        "relay: one connection speaks for all, as `<name> text`.",
    )
    nick: OwnNick = Field(default="trestle", description="Nick of the relay, which also listens.")
    puppet_nick: str = Field(
        default=NAME,
        description="What the nicks of Matrix users are like: {name} is the name that they have "
        'there. Some networks want to see who comes by a bridge, "{name}[m]" say. Whoever has a '
        "nick keeps it.",
    )
    username: str = Field(
        default="trestle", min_length=1, max_length=50,
        description="User name (ident) of the relay.",
    )  # fmt: skip
    realname: str = Field(
        default="Trestle, a bridge to Matrix", min_length=1, description="Real name of the relay."
    )
    password: SecretText | None = Field(
        default=None, description="Server password, for the relay and for puppets."
    )
    sasl_account: str | None = Field(
        default=None, min_length=1, description="Account that the relay signs in to (SASL)."
    )
    sasl_password: SecretText | None = Field(default=None, description="That account's password.")
    certificate_file: Path | None = Field(
        default=None,
        description="Certificate and key (PEM, no password) that the relay shows, for SASL "
        "EXTERNAL and for networks that know an account by it (CertFP). Made when the "
        "file is not there.",
    )
    nickserv: Service | None = Field(
        default=None,
        description="Who is told account and password, the relay's and those of people who link "
        "one, where a server has no SASL: NickServ, or "
        "NickServ@services.example.org, which nobody can pretend to be. Not set: nobody.",
    )
    webirc: WebircSettings | None = Field(
        default=None,
        description="Tell the server each user's own address, which comes from ipv6_prefix.",
    )
    ipv6_prefix: IPv6Network | None = Field(
        default=None,
        description="Give each Matrix user an IPv6 address of their own, so that a network can "
        "ban one. The prefix (at most /96) must be routed to this machine.",
    )
    ident_listen: str | None = Field(
        default=None,
        description="Address and port, 0.0.0.0:113 say, on which servers may ask who is behind "
        "a connection (RFC 1413). Instances may share it.",
    )
    connect_rate: float = Field(
        default=2.0, gt=0, le=1000, description="New connections a second, after a restart too."
    )
    connects_at_once: int = Field(
        default=5, ge=1, le=1000, description="How many connections are being made at a time."
    )
    most_puppets: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Connections of Matrix users. Beyond it, whoever was silent for longest goes.",
    )
    idle_seconds: float = Field(
        default=0,
        ge=0,
        description="Silence after which a Matrix user's connection is closed, until the next "
        "message. 0: never.",
    )
    netsplit_seconds: float = Field(
        default=3600,
        ge=0,
        description="How long people who were cut off by a netsplit stay in the room, at least; "
        "most are back before. 0: they go at once.",
    )
    relays: tuple[AnyNick, ...] = Field(
        default=(),
        description="Nicks of other relays in the channels, which say `<name> text` for others: "
        "in Matrix it is shown as said by that name.",
    )
    private_messages: bool = Field(
        default=True,
        description="Carry what people on IRC say to a Matrix user's connection alone, into a "
        "direct chat; and let Matrix users begin such chats, and write to others than services.",
    )
    reactions: Literal["text", "nothing"] = Field(
        default="text",
        description="What becomes of a reaction where the server or the message has no means for "
        "it: said as a line, or left out.",
    )
    redactions: Literal["text", "nothing"] = Field(
        default="nothing",
        description="What becomes of a deletion where the server has no means for it: a line says "
        "that a message was taken back, or nothing is said.",
    )
    relaymsg: bool = Field(
        default=True,
        description="Where one connection speaks for others and the server lets it do so in their "
        "names (draft/relaymsg), do so, instead of `<name> text`.",
    )
    quiet_names: bool = Field(
        default=True,
        description="Where one connection speaks for others as `<name> text`, and the name holds "
        "the nick of somebody in one of the bridged channels, put an invisible sign (U+200B) into "
        "it: else that person's program calls them with each line. Other names stay as they are.",
    )
    typing: bool = Field(
        default=True, description="Show who is writing, both ways, where the server carries it."
    )
    mentions: Literal["anywhere", "start", "nowhere"] = Field(
        default="anywhere",
        description="Where a nick in an IRC message mentions the person in Matrix: at its start "
        "alone, or anywhere in it.",
    )
    quote_after_seconds: int = Field(
        default=300,
        ge=0,
        description="Age from which an answer quotes what it answers, instead of naming the "
        "person alone. What was said last is never quoted.",
    )
    colours: Literal[16, 99, "hex"] = Field(
        default=16,
        description="Colours to choose from. All clients know 16, many 99, few any (hex).",
    )
    allow_raw: bool = Field(
        default=False,
        description="Let people write some lines of the protocol as they are (`raw`), and have "
        "them written on each connect: questions, and what people do to channels.",
    )
    allow_uncloak: bool = Field(
        default=False,
        description="Let people take the mode `x` (or `h`) from their own connections, by "
        "which most networks hide addresses: then everybody there sees this machine's, or with "
        "ipv6_prefix the person's.",
    )
    most_lines: int = Field(
        default=40,
        ge=1,
        le=200,
        description="Of a longer message only the beginning is said, with a link to all of it; "
        "without a public address it is refused.",
    )
    flood_burst: int = Field(
        default=5, ge=1, le=1000, description="Lines that one connection may write at once."
    )
    flood_rate: float = Field(
        default=2.0,
        gt=0,
        le=10_000,
        description="Lines a second after the burst. Servers throw out anyone faster than they "
        "allow; on your own network it may be much more.",
    )
    connect_seconds: float = Field(
        default=30, gt=0, le=60, description="Limit for connecting and signing in."
    )
    join_seconds: float = Field(
        default=20, gt=0, le=60, description="Limit for a server's answer to a join."
    )
    confirm_seconds: float = Field(
        default=20,
        gt=0,
        le=60,
        description="Limit for a server's word that it has read a message. A connection that is "
        "silent for longer is made anew.",
    )
    ping_seconds: float = Field(
        default=60, gt=0, description="Silence after which the server is asked for a sign of life."
    )
    ping_timeout_seconds: float = Field(
        default=60, gt=0, description="Silence after that which ends the connection."
    )
    rejoin_seconds: float = Field(
        default=30,
        gt=0,
        description="Wait before the relay returns to a channel that it was kicked from; doubled "
        "each time.",
    )

    @property
    def palette(self) -> int:
        """How many colours there are to choose from."""
        return ANY_COLOUR if self.colours == "hex" else self.colours

    @property
    def takes_logins(self) -> bool:
        """Whether a person may link an account: a password goes nowhere in the clear."""
        return self.mode == "puppets" and all(server.is_private for server in self.servers)

    @property
    def who_answers(self) -> str:
        """Whom to turn to, in a sentence; empty if nobody is named."""
        return f"Contact: {self.contact}." if self.contact else ""

    def describe(self, owner: str | None) -> str:
        """What the bridge is, for whom a connection is there, and whom to turn to."""
        person = "a Matrix user" if not self.show_matrix_ids else owner
        words = [f"Trestle, a bridge to Matrix, for {person}" if owner else self.realname]
        return "; ".join([*words, f"contact: {self.contact}"] if self.contact else words)

    @field_validator("realname", "sasl_account", "contact")
    @classmethod
    def _check_one_line(cls, value: str | None) -> str | None:
        return None if value is None else one_line(value)

    @field_validator("puppet_nick")
    @classmethod
    def _check_puppet_nick(cls, value: str) -> str:
        if not is_form(value):
            raise ValueError(
                f"it must hold {NAME} once and beside it at most {MOST_AROUND} characters of a "
                f'nick: "{NAME}[m]" say'
            )
        return value

    @field_validator("username")
    @classmethod
    def _check_username(cls, value: str) -> str:
        if not (value.isascii() and value.replace("-", "").replace("_", "").isalnum()):
            raise ValueError("a user name has letters, digits, - and _ only")
        return value

    @field_validator("ipv6_prefix")
    @classmethod
    def _check_prefix(cls, value: IPv6Network | None) -> IPv6Network | None:
        if value is not None and value.prefixlen > LONGEST_PREFIX:
            raise ValueError(
                f"a prefix has at most {LONGEST_PREFIX} bits, else people share addresses"
            )
        return value

    @field_validator("ident_listen")
    @classmethod
    def _check_listen(cls, value: str | None) -> str | None:
        if value is not None:
            read_listen(value)
        return value

    @model_validator(mode="after")
    def _check_ways(self) -> "IrcSettings":
        own = [
            *(["ipv6_prefix without webirc"] if self.ipv6_prefix and not self.webirc else []),
            *(["ident_listen"] if self.ident_listen else []),
        ]
        proxied = [server.label for server in self.servers if server.proxy]
        if own and proxied:
            raise ValueError(
                f"{' and '.join(own)} cannot be together with a proxy: {', '.join(proxied)} sees "
                "the proxy's address and port, and not ours"
            )
        if self.webirc is not None and self.ipv6_prefix is None:
            raise ValueError("webirc tells users' addresses: set ipv6_prefix, which they are from")
        exposed = [server.label for server in self.servers if not server.is_private]
        if self.webirc is not None and exposed:
            raise ValueError(
                f"the webirc password would cross to {', '.join(exposed)} in the clear: "
                "set tls: true"
            )
        plain = [server.label for server in self.servers if not server.tls]
        if self.certificate_file is not None and plain:
            raise ValueError(
                f"certificate_file needs encrypted connections, which {', '.join(plain)} has not: "
                "set tls: true"
            )
        return self

    @model_validator(mode="after")
    def _check_sasl(self) -> "IrcSettings":
        if (self.sasl_account is None) != (self.sasl_password is None):
            raise ValueError("sasl_account and sasl_password go together: give both or neither")
        exposed = [server.label for server in self.servers if not server.is_private]
        if self.sasl_account is not None and exposed:
            raise ValueError(
                f"the sasl_password would cross to {', '.join(exposed)} in the clear: "
                "set tls: true"
            )
        return self
