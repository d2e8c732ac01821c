"""What a person may say about a connection of their own."""

import asyncio

from bridge.networks.irc.client import certfp, typed
from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.commands.listing import Listing, read_whois
from bridge.networks.irc.connections.inquiry import UnansweredError
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.messages.speech import compose
from bridge.networks.irc.names.targets import read_channel, read_nick, read_own_nick, read_person
from bridge.networks.irc.names.usernames import is_username
from bridge.networks.irc.network.keepsakes import ACCOUNT, AUTOCOMMAND, AWAY, CERTIFICATE
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.endings import BannedError
from bridge.networks.irc.wire import Incoming, clean, cut, line
from bridge.sdk.commands import NetworkCall, as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Message, MessageKind
from bridge.sdk.ids import EventId, RemoteChatId
from bridge.sdk.rich import Rich

ANSWER_SECONDS = 2.0
"""How long a private answer is waited for: services answer at once."""
MOST_ANSWERS = 20
MOST_RAW_LINES = 30
REASON_BYTES = 200
_INSTEAD = {
    "416": "A pattern makes the list shorter.",
    "263": "Try it again in a minute.",
}
"""What helps where a list is refused, by the numeric; some servers break it off so."""
MOST_PATTERN_BYTES = 200
"""More than a channel's name has."""


def own_client(call: NetworkCall) -> IrcClient:
    """The sender's own client. Raises ``PermanentFailure`` if it is not at work."""
    if not isinstance(call.own, IrcClient):
        raise PermanentFailure("your connection is not at work")
    return call.own


async def status(call: NetworkCall) -> str:
    """How the connection is; nothing is connected for that."""
    client = own_client(call)
    connection, channels = client.link.connection, client.link.channels
    account = client.keepsakes.read(ACCOUNT)
    signed = [f"You sign in to the account {account}."] if account else []
    if connection is None or channels is None:
        why = call.own_trouble
        state = f"You are not connected: {why}." if why else "You are not connected."
        return " ".join([state, _way_back(client), *signed])
    own = connection.own
    mask = f"{own.nick}!{own.user}@{own.host}" if own.host else own.nick
    names = ", ".join(channels.names) or "no channel"
    away = client.keepsakes.read(AWAY)
    said = [f"You are away: {away}."] if away else []
    return " ".join([f"You are {mask} on {connection.server}, in {names}.", *said, *signed])


def _way_back(client: IrcClient) -> str:
    refusal = client.link.refusal
    if refusal is None:
        return "Your next message or command connects you."
    if client.is_linked and not client.may_link:
        return "The network refused you, and is not tried again until the bridge is restarted."
    if client.is_linked:
        return (
            "The network refused you, and is not tried again until you sign in anew "
            f"({as_typed('login')}) or the bridge is restarted."
        )
    waits = (
        "The network refused you, so what you say does not reach it: a minute after that, and "
        "later each time, one message tries it again."
    )
    # Another name would get round a ban.
    if isinstance(refusal, BannedError) or not client.may_link:
        return waits
    return (
        f"{waits} If the account, its password or the nick is no good, sign in anew: "
        f"{as_typed('login')}."
    )


async def disconnect(call: NetworkCall) -> str:
    """End the connection until the next message or command."""
    client = own_client(call)
    if not client.disconnect():
        return f"You are not connected. {_way_back(client)}"
    return (
        "Your connection ends, and nobody sees or reaches you there. Your next message or command "
        "connects you again."
    )


async def reconnect(call: NetworkCall) -> str:
    """Have the connection made anew, or made."""
    client = own_client(call)
    is_anew = client.renew()
    async with client.at_hand() as (connection, _, _):
        who = f"{connection.own.nick} on {connection.server}"
    if is_anew:
        client.note_wish()  # Not before: whoever got no connection may try again.
        return (
            f"You are connected anew, as {who}. You come back into the channels that you were in."
        )
    return f"You are connected, as {who}. What you say in a channel's room brings you back there."


async def nick(call: NetworkCall) -> str:
    """Change the nick, for good."""
    client = own_client(call)
    if not call.text:
        async with client.at_hand() as (connection, _, _):
            return f"You are {connection.own.nick}."
    wanted = read_own_nick(call.text)
    async with client.at_hand() as (connection, _, inquiries):
        limits = connection.isupport
        if len(wanted) > limits.nick_length:
            raise PermanentFailure(f"a nick has at most {limits.nick_length} characters there")
        await client.naming.check_free_nick(wanted, limits)
        with client.changing_nick(wanted):
            if connection.own.nick != wanted:
                await inquiries.change(line("NICK", wanted), wanted={"NICK"})
            if connection.own.nick != wanted:
                raise PermanentFailure(f"the network did not let you be {wanted}")
            await client.naming.choose_nick(wanted, limits)
    return f"You are {wanted} from now on."


async def whois(call: NetworkCall) -> str:
    """Ask who somebody is."""
    wanted = read_nick(call.text)
    async with own_client(call).at_hand() as (connection, _, inquiries):
        answer = await inquiries.ask(
            line("WHOIS", wanted), wanted=replies.WHOIS, last={replies.WHOIS_END}
        )
    return read_whois(wanted, answer.lines, connection.isupport.fold)


async def list_channels(call: NetworkCall) -> str:
    """List channels: the largest, or those whose name fits a pattern."""
    pattern = call.text.strip()
    if " " in pattern or "," in pattern or clean(pattern) != pattern:
        raise PermanentFailure("a pattern is one word: *linux*")
    if len(pattern.encode()) > MOST_PATTERN_BYTES:
        raise PermanentFailure(f"a pattern has at most {MOST_PATTERN_BYTES} bytes")
    async with own_client(call).at_hand() as (connection, _, inquiries):
        listing = Listing(pattern, connection.isupport, connection.own.nick)
        try:
            await inquiries.follow(
                listing.question(), wanted={replies.LIST_ENTRY, "NOTICE"},
                last={replies.LIST_END}, hear=listing.hear,
            )  # fmt: skip
        except UnansweredError as error:
            if not listing.number and listing.said:
                raise PermanentFailure(
                    f"no channel was listed. The server says: {listing.said}"
                ) from error
            if not listing.number:
                raise
            return (
                f"{listing.show()}\n{connection.server} broke off after {listing.number}: there "
                "may be more; a pattern makes the list shorter."
            )
        except replies.CommandRefusedError as error:
            refusal = f"{error}. {_INSTEAD[error.code]}" if error.code in _INSTEAD else str(error)
            if not listing.number:
                raise PermanentFailure(refusal) from error
            return f"{listing.show()}\n{refusal}"
    return listing.show()


async def part(call: NetworkCall) -> str:
    """Leave a channel, the room's if none is named, until the next message there."""
    name, _, reason = call.text.partition(" ")
    client = own_client(call)
    if not name and call.chat is None:
        raise PermanentFailure("say part <#channel> [reason], or say it in the channel's room")
    async with client.at_hand() as (connection, channels, _):
        if call.chat is not None and not connection.isupport.is_channel(name):
            chat, reason = call.chat, call.text
        else:
            chat = read_channel(name, connection.isupport)
        if not channels.is_in(chat.name):
            raise PermanentFailure(f"you are not in {chat.name}")
        await client.leave(chat, cut(reason.strip() or "left", REASON_BYTES))
    return f"You left {chat.name}. What you say in its room brings you back there."


async def msg(call: NetworkCall) -> str:
    """Say something to one person, and hear what a service answers at once.

    What others answer is theirs to have bridged or not, and goes where such things go.
    """
    target, _, text = call.text.partition(" ")
    if not text.strip():
        raise PermanentFailure("say msg, a nick and a text")
    person, client = read_person(target), own_client(call)
    client.guard_people(person)
    client.guard_secret(person, Rich.plain(text))
    message = Message(
        chat=RemoteChatId(person), event_id=EventId("$msg"), sender=call.sender,
        kind=MessageKind.TEXT, body=Rich.plain(text.strip()),
    )  # fmt: skip
    nick = person.partition("@")[0]
    async with client.at_hand() as (connection, _, inquiries):
        client.network.refuse_ours(nick)
        lines = compose(
            message, person, own=connection.own, limits=connection.isupport,
            settings=client.settings,
        )  # fmt: skip
        with inquiries.overhearing.of(nick, client.network.is_service) as heard:
            await connection.deliver(person, lines, client.now)
            await heard.wait(ANSWER_SECONDS, MOST_ANSWERS)
    said = [f"{one.source.nick if one.source else person}: {_text(one)}" for one in heard.lines]
    if said:
        return "\n".join([f"Said to {person}.", *said])
    if not client.settings.private_messages:
        return f"Said to {person}, which has not answered yet."
    return f"Said to {person}. What is answered in private comes in a direct chat."


def _text(message: Incoming) -> str:
    return cut(strip_codes(message.param(-1)), REASON_BYTES * 2)


async def away(call: NetworkCall) -> str:
    """Be away, with a reason, or here again."""
    reason, client = cut(" ".join(call.text.split()), REASON_BYTES), own_client(call)
    async with client.at_hand() as (_, _, inquiries):
        asked = line("AWAY", reason) if reason else line("AWAY")
        await inquiries.change(asked, wanted={replies.NOW_AWAY, replies.NO_LONGER_AWAY})
        await client.keepsakes.keep(AWAY, reason)
    return f"You are away: {reason}." if reason else "You are here again."


async def raw(call: NetworkCall) -> str:
    """Write a line as it is, where the settings allow it."""
    client = own_client(call)
    one = typed.read_raw(call.text, client.settings)
    async with client.at_hand() as (_, _, inquiries):
        answer = await inquiries.change(one, everything=True)
    shown = [
        cut(strip_codes(" ".join((said.command, *said.params[1:]))), REASON_BYTES * 2)
        for said in answer.lines[:MOST_RAW_LINES]
    ]
    left = len(answer.lines) + answer.left_out - len(shown)
    return "\n".join([*shown, *([f"and {left} lines more"] if left else [])]) or "Done."


async def username(call: NetworkCall) -> str:
    """See or choose the user name (ident); the connection is made anew with it."""
    client = own_client(call)
    if not call.text:
        return f"Your user name is {await client.naming.username()}."
    wanted = "" if call.text == "off" else call.text
    if wanted and not is_username(wanted):
        raise PermanentFailure(
            "a user name has at most ten small letters, digits, - and _, a letter or digit first"
        )
    # Nobody who is not let in by the present one gets another: no ban is got round.
    async with client.at_hand():
        before = await client.naming.username()
        now = await client.naming.change_username(wanted)
    if now == before:
        return f"Your user name is {now} already."
    client.change_username(before, now)
    return (
        f"Your user name is {now} from now on; your connection is made anew, and says there that "
        f"it was {before}. Where {before} is banned, you are."
    )


async def certificate(call: NetworkCall) -> str:
    """See, make or forget the certificate by which networks know an account (CertFP)."""
    client = own_client(call)
    if not all(server.tls for server in client.settings.servers):
        raise PermanentFailure("certificates need encrypted connections, which this network lacks")
    pem = client.keepsakes.read(CERTIFICATE)
    match call.text:
        case "" | "off" if not pem:
            return (
                f"You have no certificate. Say {client.as_typed('certfp new')} to have one made."
            )
        case "":
            return f"Your certificate's fingerprint: {certfp.fingerprint(pem.encode())}"
        case "new":
            made = await asyncio.to_thread(certfp.make, call.sender.user_id[1:60], client.now())
            await client.keepsakes.keep(CERTIFICATE, made.decode())
            client.reconnect("Comes back with a certificate")
            known_by = certfp.fingerprint(made)
            return (
                f"Your connection is made anew and shows a certificate with the fingerprint "
                f"{known_by}. Tell the network once: "
                f"{client.as_typed(f'msg NickServ CERT ADD {known_by}')}"
            )
        case "off":
            await client.keepsakes.keep(CERTIFICATE, "")
            client.reconnect("Comes back without a certificate")
            return "Your certificate is forgotten; your connection is made anew."
    raise PermanentFailure("say certfp alone, or with new or off")


async def autocommand(call: NetworkCall) -> str:
    """See, choose or forget what is done on each connect."""
    client = own_client(call)
    kept = client.keepsakes.read(AUTOCOMMAND)
    if not call.text:
        return f"On each connect:\n{kept}" if kept else "Nothing is done on connect."
    if call.text == "off":
        await client.keepsakes.keep(AUTOCOMMAND, "")
        return "Nothing is done on connect any more."
    lines = client.read_autocommands(call.text)
    await client.keepsakes.keep(AUTOCOMMAND, call.text)
    number = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
    return f"Kept. It is done on each connect from now on ({number})."
