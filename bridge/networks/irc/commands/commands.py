"""The commands that people give an IRC network, as one table."""

from bridge.networks.irc.commands import ctcp, moderation, personal, usermodes
from bridge.networks.irc.network.keys import FORGETTING
from bridge.sdk.commands import NetworkCommand, Where

_ABOUT_PERSONS = (
    ("reconnect", "reconnect", "have your connection made anew", personal.reconnect),
    ("nick", "nick [nick]", "see your nick, or have another from now on", personal.nick),
    ("whois", "whois <nick>", "say who somebody is", personal.whois),
    ("list", "list [pattern]", "list the largest channels, of names like *linux*",
     personal.list_channels),
    ("part", "part [#channel] [reason]",
     "leave a channel, the room's if none is named, until you speak there again", personal.part),
    ("msg", "msg <nick> <text>", "say something to one person, or to NickServ", personal.msg),
    ("ctcp", "ctcp <nick> <question>",
     "ask somebody's program something: VERSION, TIME, or PING for how far away it is",
     ctcp.ctcp),
    ("away", "away [reason]", "be away, or here again", personal.away),
    ("raw", "raw <line>", "write a line of the protocol, where the settings allow it",
     personal.raw),
)  # fmt: skip

_ABOUT_ROOMS = (
    ("op", "op [-]<nick> ...", "make people operators, or no longer",
     moderation.ranks("o", "op"), True),
    ("voice", "voice [-]<nick> ...", "give people voice, or take it",
     moderation.ranks("v", "voice"), True),
    ("mode", "mode <flags> [values]", "set or take modes of the channel: mode +m-i, mode +l 20",
     moderation.mode, True),
    ("invite", "invite <nick>", "invite somebody into the channel", moderation.invite, True),
    ("kick", "kick <nick> [reason]", "put somebody out of the channel", moderation.kick, True),
    ("ban", "ban [-]<nick or mask>", "ban somebody, or lift a ban", moderation.ban, True),
    ("names", "names", "say who is there", moderation.names, False),
    ("modes", "modes", "say which modes and bans there are", moderation.modes, False),
    ("sync", "sync", "compare the room's members with the channel's", moderation.sync, True),
)  # fmt: skip

COMMANDS = (
    NetworkCommand(
        name="status", usage="status", where=Where.PERSON, wakes=False,
        help="say how your connection is", run=personal.status,
    ),
    NetworkCommand(
        name="disconnect", usage="disconnect", where=Where.PERSON, wakes=False,
        help="end your connection until you say something there again", run=personal.disconnect,
    ),
    *(
        NetworkCommand(name=name, usage=usage, help=text, run=run, where=Where.PERSON)
        for name, usage, text, run in _ABOUT_PERSONS
    ),
    NetworkCommand(
        name="umode", usage="umode [modes|off]", where=Where.PERSON, words=frozenset({"off"}),
        help="see your own modes, or set and take some for good: umode +i-w", run=usermodes.umode,
    ),
    NetworkCommand(
        name="username", usage="username [name|off]", where=Where.PERSON,
        words=frozenset({"off"}),
        help="see or choose your user name (ident)", run=personal.username,
    ),
    NetworkCommand(
        name="certfp", usage="certfp [new|off]", where=Where.PERSON,
        words=frozenset({"new", "off"}),
        help="see, make or forget a certificate for your account", run=personal.certificate,
    ),
    NetworkCommand(
        name="autocommand", usage="autocommand [commands|off]", where=Where.PERSON,
        words=frozenset({"off"}),
        help="see or choose what is done on each connect: msg, away or raw, one a line",
        run=personal.autocommand, is_private=True,
    ),
    NetworkCommand(
        name="key", usage="key [key|off]", where=Where.ROOM, needs_power=True, looks_alone=True,
        words=FORGETTING, secret_after=0, run=moderation.key,
        help="keep the key (+k) by which we join the channel, or forget it",
    ),
    NetworkCommand(
        name="topic", usage="topic [text]", where=Where.ROOM, needs_power=True, looks_alone=True,
        help="see or set the topic", run=moderation.topic,
    ),
    *(
        NetworkCommand(
            name=name, usage=usage, help=text, run=run, where=Where.ROOM, needs_power=power
        )
        for name, usage, text, run, power in _ABOUT_ROOMS
    ),
)  # fmt: skip
