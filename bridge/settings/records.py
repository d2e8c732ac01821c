"""The settings as typed, frozen records.

Each key is declared here once: its type, its default, its words for the admin. The reader
(``bridge.config``), the example file and the reference are made from it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_origin, get_type_hints

from bridge.model import InstanceRules, Permission
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret


class Address(NamedTuple):
    """Where a listener binds. Port 0 is any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - told from others, not bound
"""Hosts by which every address of the machine is meant."""

RECEIVER = Address("127.0.0.1", 29333)
"""Where transactions come in, unless the settings say otherwise."""

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
"""How important a line of the log is, the least first."""

_OPS = Address("127.0.0.1", 9184)
_WEB, _PUBLIC = Address("127.0.0.1", 8184), Address("127.0.0.1", 8185)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a settings key says of itself."""

    doc: str
    """Sentences for the admin; they become the comment in the example file."""
    example: object = None
    """The value in the example file, if it is not the default."""
    shape: Literal["", "url", "server", "localpart", "database"] = ""
    """A check beside the type; see ``bridge.config``."""
    private: bool = False
    """``<key>_file`` and an environment variable may give it too."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Further keys whose values are appended to this one's, with their words."""
    least: float = 0.0
    """A number below it is refused."""
    sample: str = ""
    """What the example file shows, as a comment, of a key whose default is empty."""
    otherwise: str = ""
    """What holds where it is left out, in words, if that is made of other keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeserverSettings:
    """How we reach the homeserver."""

    url: Annotated[
        str,
        Key(
            doc="The base URL of its client API, as this program reaches it.",
            example="https://matrix.example.org",
            shape="url",
        ),
    ]
    server_name: Annotated[
        str,
        Key(
            doc="The part of your Matrix ids after the colon.",
            example="example.org",
            shape="server",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppserviceSettings:
    """How the homeserver reaches us, and as whom we speak."""

    listen: Annotated[
        Address,
        Key(doc="Where the homeserver's transactions come in. Keep it off the internet."),
    ] = RECEIVER
    url: Annotated[
        str,
        Key(
            doc="The URL under which the homeserver reaches that listener. If left out: http:// "
            "and the address above.",
            example="http://127.0.0.1:29333",
            shape="url",
            otherwise="from `listen`",
        ),
    ] = ""
    as_token: Annotated[
        Secret,
        Key(
            doc="The token that Trestle shows to the homeserver. `trestle init` makes it.",
            example="CHANGE ME",
            private=True,
        ),
    ]
    hs_tokens: Annotated[
        tuple[Secret, ...],
        Key(
            doc="The token that the homeserver shows to Trestle. `trestle init` makes it.",
            example="CHANGE ME",
            private=True,
            also={
                "hs_token_old": "The one before, accepted too while you change it: put the new "
                "one in both files, restart the homeserver, then remove this line."
            },
        ),
    ]
    legacy_query_token: Annotated[
        bool,
        Key(doc="Accept the token as `?access_token=` too. Only very old homeservers need it."),
    ] = False
    id: Annotated[
        str,
        Key(doc="The registration's id. The homeserver knows us by it; do not change it."),
    ] = "trestle"
    sender_localpart: Annotated[
        str,
        Key(
            doc="A random name that the registration needs and nobody sees. `trestle init` makes "
            "it; it cannot be changed later.",
            example="CHANGE ME",
            shape="localpart",
        ),
    ]
    bot_localpart: Annotated[
        str,
        Key(
            doc="The name of the main bot, which people talk to: @trestle:example.org.",
            shape="localpart",
        ),
    ] = "trestle"
    prefix: Annotated[
        str,
        Key(
            doc="What our user ids and aliases begin with. Changing it leaves all earlier ones "
            "behind.",
            shape="localpart",
        ),
    ] = "_trestle_"
    double_puppets: Annotated[
        bool,
        Key(
            doc="Let what people of your server write on a network appear under their own Matrix "
            "account. For that the registration names all of them, and the homeserver sends us "
            "whatever happens in all their rooms. Without it, people can give the bot a token of "
            "their own."
        ),
    ] = False
    max_body_bytes: Annotated[
        int, Key(doc="The longest transaction that is read, in bytes (64 MiB).")
    ] = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where everything is kept."""

    url: Annotated[
        str,
        Key(
            doc="`embedded` runs a Postgres of our own in state_dir. Or postgresql://...",
            shape="database",
            private=True,
        ),
    ] = field(default="embedded", repr=False)
    owner_url: Annotated[
        str | None,
        Key(
            doc="For migrations, if another role owns the tables: postgresql://trestle_owner@...",
            shape="database",
            private=True,
        ),
    ] = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsSettings:
    """For whoever watches over Trestle."""

    listen: Annotated[
        Address | None,
        Key(doc="Serves /metrics, /live and /ready. `null` switches it off."),
    ] = _OPS


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What people open in a browser."""

    listen: Annotated[Address, Key(doc="Where the manager listens, behind a proxy with TLS.")] = (
        _WEB
    )
    manager_url: Annotated[
        str | None,
        Key(
            doc="The URL under which people reach it: the root of an origin that serves nothing "
            "else. If left out, there is no web.",
            shape="url",
        ),
    ] = None
    public_listen: Annotated[
        Address,
        Key(
            doc="Where the media links that people on networks get, and the page /bridged, are "
            "served, behind a proxy with TLS."
        ),
    ] = _PUBLIC
    public_url: Annotated[
        str | None,
        Key(
            doc="The URL of those: another origin than manager_url's (the same host on another "
            "port will do). If left out, they are off.",
            shape="url",
        ),
    ] = None
    media_days: Annotated[
        int,
        Key(
            doc="For how many days the links to pictures and long texts work that people on "
            "networks get."
        ),
    ] = 30
    contact: Annotated[
        str,
        Key(
            doc="Whom people can turn to. The public page that lists what is bridged (/bridged "
            "under public_url) says it, and people whose words are bridged are told of that page; "
            "without public_url they are told this.",
            sample="admin@example.org",
        ),
    ] = ""
    policy: Annotated[
        str,
        Key(
            doc="The rules by which you run the bridge, told in the same places: a few sentences, "
            "or a link.",
            sample="What is said is kept for 14 days. https://example.org/rules",
        ),
    ] = ""
    homeservers: Annotated[
        Mapping[str, str],
        Key(
            doc="Other homeservers whose people may sign in, each with the base URL of its "
            "federation API: {other.example.org: https://matrix.other.example.org:8448}."
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchingSettings:
    """What is fetched from addresses that people name.

    Nothing is so far: it is for modules to come.
    """

    allow: Annotated[
        tuple[str, ...],
        Key(
            doc="Hosts inside your own network that people may name all the same: "
            "[feeds.lan, 10.0.0.5:8080, 10.1.0.0/16]. Without a port: 80 and 443. It is checked, "
            "but does nothing yet."
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to the log, and where."""

    format: Annotated[
        Literal["console", "json"],
        Key(doc="`console` for people, `json` (one object a line) for machines."),
    ] = "console"
    level: Annotated[LogLevel, Key(doc="The least important lines that are written.")] = "info"
    levels: Annotated[
        Mapping[str, LogLevel],
        Key(
            doc="Other levels for single parts: an instance, a module, or a part of the program "
            "like core, matrix or storage. `{irc: debug}`"
        ),
    ] = field(default_factory=dict)
    file: Annotated[
        Path | None,
        Key(
            doc="Write to this file instead of standard error. A new one begins at midnight UTC; "
            "those of today and of the 13 days before are kept."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How long, how often, how many."""

    item_deadline: Annotated[
        float, Key(doc="Seconds that a bot or a command may take for one event.")
    ] = 30.0
    send_deadline: Annotated[
        float, Key(doc="Seconds that a network may take for one message.")
    ] = 120.0
    watchdog: Annotated[
        float,
        Key(
            doc="Seconds that a module may block the whole program; after that it is restarted.",
            least=1.0,
        ),
    ] = 30.0
    items_in_memory: Annotated[
        int, Key(doc="Events kept in memory at once. Others wait in the database.")
    ] = 50_000
    tell_after: Annotated[
        float,
        Key(doc="Seconds that a message waits for a network before its room is told so."),
    ] = 60.0
    late_after: Annotated[
        float,
        Key(
            doc="Seconds after which a message is late. When a network comes back and very many "
            "late ones wait in a room, the oldest are left out, and both sides are told how many."
        ),
    ] = 3600.0
    late_keep: Annotated[
        int, Key(doc="How many of a room's newest messages are then sent all the same.")
    ] = 50
    tries: Annotated[
        int, Key(doc="How often an event that fails is tried before it is parked.")
    ] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSettings:
    """One instance of a module. Its options are checked by the module's own model."""

    instance: InstanceId
    module: str
    options: Mapping[str, object] = field(default_factory=dict, repr=False)
    rules: InstanceRules = field(default_factory=InstanceRules)
    environment: Mapping[str, Secret] = field(default_factory=dict)
    """What the environment gives: the option's name in capitals, and its text."""
    exposed: Path | None = field(default=None, compare=False)
    """The file of settings, if everybody on the machine can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSettings:
    """What one room is to have."""

    room: str
    """Its alias or id."""
    bridge: Mapping[InstanceId, tuple[str, ...]] = field(default_factory=dict)
    """Networks, and the chats of each."""
    bots: tuple[InstanceId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that config.yaml says."""

    homeserver: Annotated[HomeserverSettings, Key(doc="How we reach the homeserver.")]
    appservice: Annotated[
        AppserviceSettings,
        Key(
            doc="How the homeserver reaches us. registration.yaml says the same to the "
            "homeserver: after a change here write it again with `trestle registration`."
        ),
    ]
    database: Annotated[DatabaseSettings, Key(doc="Where everything is kept.")] = field(
        default_factory=DatabaseSettings
    )
    state_dir: Annotated[
        Path,
        Key(
            doc="The embedded database and the keys. Back it up. A relative path begins at this "
            "file's folder.",
            example="/var/lib/trestle",
        ),
    ] = Path("state")
    web: Annotated[WebSettings, Key(doc="What people open in a browser.")] = field(
        default_factory=WebSettings
    )
    fetching: Annotated[
        FetchingSettings,
        Key(
            doc="What is fetched from addresses that people name. Nothing in this version fetches "
            "from such addresses; this is for modules to come."
        ),
    ] = field(default_factory=FetchingSettings)
    ops: Annotated[OpsSettings, Key(doc="For whoever watches over Trestle.")] = field(
        default_factory=OpsSettings
    )
    permissions: Annotated[
        Mapping[str, Permission],
        Key(
            doc="Who may do what: none < relay < user < admin, by Matrix id, else by server "
            "(upper or lower case), else by `*`. Without a line for `*`, your own server is "
            "`user` and the rest `none`; with one, it holds for your own server too, "
            "unless that has a line of its own. A server that may do less than `*` may not do "
            "more at any of its ports; one that may do more may so only as it is written.",
            example={"*": "none", "example.org": "user", "@admin:example.org": "admin"},
        ),
    ] = field(default_factory=dict)
    modules: Annotated[
        Mapping[InstanceId, ModuleSettings],
        Key(
            doc="What runs. The key is the instance's id (a letter, then letters and digits, "
            "lower case, at most 16); commands name it, as in `!trestle bridge libera #channel`, "
            "so no network may have the name of one of the bot's commands (`status`). `trestle "
            "modules` lists what is installed, `trestle modules NAME` the settings of one. "
            "Besides those, each may have: "
            "`permissions`, levels that hold for it instead of those above; "
            "`puppets: automatic | login | relay`, whose account "
            "speaks for people; `relay_name`, how a relay names them, with `{name}`, `{user}`, "
            "`{localpart}` and `{server}`; `privacy: true`, only those who are seen in the chat "
            "can read it; `members: full | speakers | none`, which people of a chat are shown; "
            "`announce: first | before` and `announce_in: room | direct`, how people are told "
            "that a connection is made for them (`before`: their first message waits until they "
            "have read it, a minute at most); "
            '`alias_template`, the aliases of its chats, for example `"#irc_{network}_{chat}"` '
            "(write the registration anew after a change); `most_rooms` (1000), how many "
            "of its chats may be bridged, and `alias_rooms_hourly` (60), how many rooms an hour "
            "are made for people who enter an alias.",
        ),
    ] = field(default_factory=dict)
    rooms: Annotated[
        tuple[RoomSettings, ...],
        Key(
            doc="Rooms that are to be bridged or to have bots, besides what people set up "
            "themselves. An admin in `permissions` must have the power to change the room's "
            "settings, and @trestle must be invited if the room is not public. `trestle config "
            "drift` says what is missing.",
            sample='- room: "#lobby:example.org"\n  bridge: {libera: "#lobby"}\n  bots: [dice]',
        ),
    ] = ()
    logging: Annotated[LogSettings, Key(doc="What is written to the log, and where.")] = field(
        default_factory=LogSettings
    )
    limits: Annotated[LimitSettings, Key(doc="How long, how often, how many.")] = field(
        default_factory=LimitSettings
    )


def keys_of(record: type) -> dict[str, tuple[Key, Any, dataclasses.Field[Any]]]:
    """Give each documented key of a settings record: its words, its type, its field."""
    hints = get_type_hints(record, include_extras=True)
    fields = {one.name: one for one in dataclasses.fields(record)}
    found = {}
    for name, hint in hints.items():
        if get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], Key):
            found[name] = (hint.__metadata__[0], hint.__origin__, fields[name])
    return found


def name_in_file(name: str, key: Key) -> str:
    """How the file spells a key of a record."""
    # ``hs_tokens`` is a tuple for the program and ``hs_token``, ``hs_token_old`` for the admin.
    return name.removesuffix("s") if key.also else name


def sections() -> dict[str, dict[str, tuple[Key, Any, dataclasses.Field[Any]]]]:
    """The keys of each section that is made of named keys."""
    return {
        section: keys_of(kind)
        for section, (_, kind, _) in keys_of(Settings).items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
