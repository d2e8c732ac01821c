"""What a server's refusals mean, in sentences, and what is to be done about them."""

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.wire import Incoming
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure

WELCOME, ISUPPORT = "001", "005"
END_OF_MOTD, NO_MOTD = "376", "422"
NAMES, END_OF_NAMES = "353", "366"
AWAY = "301"
NO_TOPIC, TOPIC = "331", "332"
HOST_HIDDEN = "396"
MONITOR_ONLINE, MONITOR_OFFLINE, MONITOR_FULL = "730", "731", "734"
MONITOR = frozenset({MONITOR_ONLINE, MONITOR_OFFLINE, MONITOR_FULL})

JOIN_REFUSED = {
    "403": "there is no such channel",
    "405": "we are in too many channels there",
    "442": "we are not in it",
    "448": "the network does not accept this name",
    "470": "the network sends us to another channel",
    "471": "the channel is full",
    "473": "it is for invited people only",
    "474": "we are banned from it",
    "475": "it needs a key",
    "476": "the network does not accept this name",
    "477": "it is for registered nicks only",
    "479": "the network does not accept this name",
    "485": "we may not join it",
    "489": "it is for encrypted connections only",
    "500": "too many people join it now",
    "519": "it is for administrators of the network only",
    "520": "it is for operators of the network only",
}
CHANNEL_FULL = "471"
_WAYS_IN = {
    "473": "Have somebody who runs it say /invite {nick} {channel}",
    "474": "Somebody who runs it can lift the ban",
    "475": "Say the key after the channel's name, or where it is bridged already: "
    + as_typed("key <key>"),
}
"""What people can do about it."""
_NO_ACCOUNT = "477"
RELAYS_ACCOUNT = "Whoever runs this bridge can give it an account: sasl_account, in its settings"
OWN_ACCOUNT = f"Sign in with an account that the network knows: {as_typed('login')}"
NO_ACCOUNTS = (
    "Nobody can sign in with an account from here, since it would cross in the clear: whoever "
    "runs this bridge can set tls: true"
)
"""The same where an account is needed: for the relay, a person's own connection, and one that
cannot have any."""
JOIN_LATER = {
    "407": "too many names at once",
    "437": "the channel cannot be joined for the moment",
    "263": "the server is too busy",
    "439": "the server asks us to slow down",
    "480": "too many people join it now",
}
JOIN_UNNAMED = frozenset({"263", "439"})
"""Of these, those that may name the command instead of the channel."""
SEND_REFUSED = {
    "401": "nobody and no channel has that name",
    "403": "there is no such channel",
    "404": "it does not let this user speak",
    "408": "it does not take colours",
    "442": "we are not in it",
    "477": "it lets only registered nicks speak",
    "486": "they take nothing from us, maybe from registered nicks only",
    "489": "we may not speak in it",
    "492": "it does not take what is no plain text",
    "493": "they take nothing from anyone who shares no channel with them",
    "494": "the network does not let us write to them now",
    "531": "the network does not let us write there",
    "716": "they take nothing from those whom they have not allowed",
}
SPEECH_REFUSED = frozenset({"404", "408", "492", "531"})
"""Those of them that no command but one that speaks is refused with."""
SEND_LATER = {
    "439": "the server asks us to slow down",
    "707": "the server asks us to slow down",
}
COMMAND_REASONS = {
    "263": "the server is too busy",
    "401": "there is nobody of that name",
    "402": "there is no such server",
    "403": "there is no such channel",
    "404": "it does not let this user speak",
    "405": "we are in too many channels",
    "406": "there was nobody of that name",
    "416": "there is too much to list",
    "421": "the server does not know that",
    "431": "a nick is missing",
    "432": "the network does not accept this nick",
    "433": "somebody has this nick",
    "436": "somebody has this nick",
    "437": "it cannot be had for the moment",
    "438": "the nick was changed too often",
    "440": "the services are away",
    "441": "they are not in the channel",
    "442": "we are not in the channel",
    "443": "they are in the channel already",
    "447": "nicks cannot be changed in a channel that we are in",
    "461": "something is missing",
    "467": "it has a key already",
    "471": "the channel is full",
    "472": "the network has no such mode",
    "473": "it is for invited people only",
    "474": "we are banned from it",
    "477": "it is for registered nicks only",
    "478": "the channel's list is full",
    "481": "it is for operators of the network only",
    "482": "it needs a channel operator's power",
    "484": "they are protected",
    "485": "it needs the power of the channel's founder",
    "501": "the network has no such mode",
    "502": "that is for oneself alone",
    "696": "the mode's value is not accepted",
    "723": "it needs a right that we do not have",
    "972": "it cannot be done",
}
"""What a refusal of a command means. One that is not here is told in the server's words alone."""
NEEDS_POWER, UNKNOWN_COMMAND = "482", "421"
NOT_THERE = frozenset({"401", "441"})
"""There is nobody of that name, or not in that channel."""
THERE_ALREADY = "443"

WHOIS_USER, WHOIS_END, LIST_END = "311", "318", "323"
LIST_ENTRY = "322"
WHOIS = frozenset({"301", "307", "311", "312", "313", "317", "319", "330", "335", "671"})
USERHOST, ISON = "302", "303"
OWN_MODES = "221"
OWN_MODES_MISTAKEN = frozenset({"501", "502"})
OWN_MODES_REFUSED = OWN_MODES_MISTAKEN | frozenset({"461", "481", "484", "723", "972"})
CHANNEL_MODES, BAN_ENTRY, END_OF_BANS = "324", "367", "368"
NO_LONGER_AWAY, NOW_AWAY = "305", "306"
INVITING = "341"

# These name the command instead of the channel, or nothing; IRCv3's FAIL names the command first.
LINE_REFUSED = frozenset({"411", "412", "413", "414", "417"})
COMMAND_REFUSED = frozenset({"263", "421", "461", "FAIL"})
SPEAKING = frozenset({"PRIVMSG", "NOTICE"})
DOING = frozenset({"TAGMSG", "REDACT"})
"""What is done to a message (IRCv3 ``message-tags``, ``draft/message-redaction``)."""
TO_PEOPLE = SPEAKING | DOING

_GROUP = "BATCH"

NICK_TAKEN = frozenset({"433", "436", "437"})
NICK_REFUSED = frozenset({"432"})

SASL_DONE = frozenset({"903", "907"})
SASL_REFUSED = frozenset({"902", "904", "905"})
SASL_ABORTED = "906"
SASL_MECHANISMS = "908"
LOGGED_IN, LOGGED_OUT = "900", "901"
NO_SUCH_NICK, SERVICES_DOWN = "401", "440"


class ChannelFullError(PermanentFailure):
    """A channel has no place: that passes by itself."""


def join_refusal(reply: Incoming, channel: str, *, account: str) -> DeliveryError | None:
    """Read a numeric as the answer to a join; None if it is not one.

    ``account``: what can be done where it wants one.
    """
    said = strip_codes(reply.param(-1))
    if reply.command in JOIN_REFUSED:
        kind = ChannelFullError if reply.command == CHANNEL_FULL else PermanentFailure
        reason = JOIN_REFUSED[reply.command]
        refused = f"{channel} cannot be joined: {reason} (the server: {said})"
        way = account if reply.command == _NO_ACCOUNT else _WAYS_IN.get(reply.command)
        if way is not None:
            refused += f". {way.format(nick=strip_codes(reply.param(0)), channel=channel)}"
        return kind(refused)
    if reply.command in JOIN_LATER:
        reason = JOIN_LATER[reply.command]
        return TemporaryFailure(f"{channel} cannot be joined now: {reason} (the server: {said})")
    if is_renamed(reply):
        new = strip_codes(reply.param(3))
        return PermanentFailure(f"{channel} is called {new} now: that can be bridged instead")
    return None


def is_renamed(reply: Incoming) -> bool:
    """Whether a join is refused as the channel has another name (``draft/channel-rename``)."""
    return reply.command == "FAIL" and reply.params[:2] == ("JOIN", "CHANNEL_RENAMED")


def channel_of(reply: Incoming) -> str:
    """The channel that a reply or a command is about, if it is about one."""
    if reply.command == NAMES:
        return reply.param(-2)  # Before it some servers leave a sign out.
    return reply.param(1 if reply.command.isdecimal() else 0)


def names_target(reply: Incoming) -> bool:
    """Whether a refusal says for whom the line was that it refuses: some servers leave it out."""
    is_one = reply.command in SEND_REFUSED or reply.command in SEND_LATER
    return is_one and len(reply.params) > 2


def send_refusal(reply: Incoming) -> DeliveryError | None:
    """Read a reply as the refusal of a line of a message; None if it is not one."""
    code, said = reply.command, strip_codes(reply.param(-1))
    if code in SEND_REFUSED:
        whom = reply.param(1) if names_target(reply) else "The other side"
        return PermanentFailure(
            f"{whom} did not take it: {SEND_REFUSED[code]} (the server: {said})"
        )
    if code in SEND_LATER:
        return TemporaryFailure(
            f"{reply.param(1)} did not take it now: {SEND_LATER[code]} (the server: {said})"
        )
    if code in COMMAND_REFUSED and not refused_commands(reply):
        return None
    if code == "263":
        return TemporaryFailure(f"The server is too busy to take it (it says: {said})")
    if code in COMMAND_REFUSED or code in LINE_REFUSED:
        return PermanentFailure(f"The server did not take it (it says: {said})")
    return None


class CommandRefusedError(PermanentFailure):
    """A server's no to a command; ``code`` is its numeric."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def command_refusal(reply: Incoming) -> CommandRefusedError:
    """Say what the server's refusal of a command means."""
    said = strip_codes(reply.param(-1))
    reason = COMMAND_REASONS.get(reply.command, "")
    if not reason:
        return CommandRefusedError(f"The server refused it: {said}", reply.command)
    about = " ".join(strip_codes(one) for one in reply.params[1:-1])
    shown = f"{about}: {reason}" if about and reply.command != "FAIL" else reason.capitalize()
    refused = f"{shown} (the server: {said})"
    if reply.command == NEEDS_POWER and about:
        refused += f". An operator there gives it: /mode {about} +o {strip_codes(reply.param(0))}"
    return CommandRefusedError(refused, reply.command)


def refused_commands(reply: Incoming) -> frozenset[str]:
    """Which of the commands that say or do something a refusal names; none if it names none."""
    if reply.command not in COMMAND_REFUSED:
        return frozenset()
    about = [param.upper() for param in reply.params[:2]]
    # No other groups of lines are written by us. Who knows no BATCH takes the lines by themselves.
    is_group = reply.command == "FAIL" and about[:1] == [_GROUP]
    return TO_PEOPLE.intersection(about) | ({_GROUP} if is_group else set())


def is_error(reply: Incoming) -> bool:
    """Whether a reply says that something of ours was not done."""
    code = reply.command
    # Some refusals have numbers beyond those that the protocol keeps for them.
    is_numbered = len(code) == 3 and code.isdecimal() and code[0] in "45"
    return is_numbered or code == "FAIL" or code in COMMAND_REASONS
