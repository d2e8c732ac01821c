"""What may be said about a bridged channel, in its room."""

from collections.abc import Awaitable, Callable, Sequence

from bridge.networks.irc.channels import bans
from bridge.networks.irc.channels.governing import invite_nick
from bridge.networks.irc.channels.rollcall import find_person
from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.commands.listing import MOST_WORD_BYTES, show_names
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.names.targets import read_mask, read_nick
from bridge.networks.irc.network.keys import FORGETTING
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.modes import Change, lines, read_typed
from bridge.networks.irc.wire import clean, cut, line
from bridge.sdk.commands import NetworkCall, as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteUserId
from bridge.sdk.secret import Secret

MOST_AT_ONCE = 6
MOST_BANS = 20
REASON_BYTES = 200

Do = Callable[[IrcClient, Connection, Inquiries], Awaitable[None]]


def _channel(call: NetworkCall) -> tuple[RemoteChat, IrcClient]:
    if call.chat is None or not isinstance(call.relay, IrcClient):
        raise PermanentFailure("this room is not bridged to a channel")
    return call.chat, call.relay


async def _act(call: NetworkCall, do: Do) -> None:
    """Do it by the sender's own connection where that has the power, else by the relay's.

    What the room lets somebody do, the bridge does for them; the channel says what the bridge
    may. Raises the channel's refusal.
    """
    chat, relay = _channel(call)
    own = call.own if isinstance(call.own, IrcClient) else None
    if own is not None and own.link.channels is not None and own.link.channels.is_in(chat.name):
        try:
            async with own.at_hand() as (connection, _, inquiries):
                await do(own, connection, inquiries)
        except replies.CommandRefusedError as error:
            if error.code not in {replies.NEEDS_POWER, "442"}:
                raise
        else:
            return
    async with relay.at_hand() as (connection, _, inquiries):
        await do(relay, connection, inquiries)


async def topic(call: NetworkCall) -> str:
    """See or set the topic."""
    chat, relay = _channel(call)
    text = " ".join(call.text.split())
    if not text:
        async with relay.at_hand() as (_, _, inquiries):
            answer = await inquiries.ask(
                line("TOPIC", chat.name), wanted={"331", "332"}, channel=chat.name
            )
        set_to = [strip_codes(one.param(-1)) for one in answer.lines if one.command == "332"]
        return f"{chat.name}: {set_to[0]}" if set_to else f"{chat.name} has no topic."

    async def do(client: IrcClient, connection: Connection, inquiries: Inquiries) -> None:
        most = connection.isupport.topic_length
        if len(text.encode()) > most:
            raise PermanentFailure(f"a topic has at most {most} bytes there")
        await inquiries.change(line("TOPIC", chat.name, text), wanted={"TOPIC"}, channel=chat.name)

    await _act(call, do)
    return f"The topic of {chat.name} is set."


def ranks(letter: str, word: str) -> Callable[[NetworkCall], Awaitable[str]]:
    """Make the command that gives a rank to nicks, or takes it (``-nick``)."""

    async def give(call: NetworkCall) -> str:
        chat, _ = _channel(call)
        words = call.text.split()
        if not 0 < len(words) <= MOST_AT_ONCE:
            raise PermanentFailure(f"say {as_typed(word)} and one to {MOST_AT_ONCE} nicks")
        signs = [
            ("-" if one.startswith("-") else "+", read_nick(one.lstrip("-"))) for one in words
        ]

        async def do(client: IrcClient, connection: Connection, inquiries: Inquiries) -> None:
            # One nick a line: a list of modes with values was once given to the wrong people.
            for sign, nick in signs:
                await inquiries.change(
                    line("MODE", chat.name, f"{sign}{letter}", nick),
                    wanted={"MODE"},
                    channel=chat.name,
                )

        await _act(call, do)
        return f"Done in {chat.name}: {word} {' '.join(words)}."

    return give


async def mode(call: NetworkCall) -> str:
    """Set modes of the channel, or take them."""
    chat, _ = _channel(call)
    words, unchanged = call.text.split(), list[str]()

    async def do(client: IrcClient, connection: Connection, inquiries: Inquiries) -> None:
        for one in lines(chat.name, _read_modes(words, connection.isupport)):
            answer = await inquiries.change(one, wanted={"MODE"}, channel=chat.name)
            if not answer.lines:
                unchanged.append(" ".join(one.params[1:]))

    await _act(call, do)
    # Servers say nothing of what is so already, and some nothing of a value that they do not take.
    left = f" Nothing was changed by {', '.join(unchanged)}." if unchanged else ""
    return f"Done in {chat.name}: mode {' '.join(words)}.{left}"


def _read_modes(words: Sequence[str], limits: Isupport) -> list[Change]:
    """Read modes that somebody typed. What has a command of its own is read as strictly."""
    if any(clean(one) != one for one in words):
        raise PermanentFailure("it holds a NUL, which no IRC line can carry")
    changes = read_typed(words, limits)
    if sum(one.value != "" for one in changes) > MOST_AT_ONCE:
        raise PermanentFailure(f"say at most {MOST_AT_ONCE} modes with a value at once")
    for one in changes:
        if one.mode in limits.prefixes.values():
            read_nick(one.value)
        elif one.mode == "b" and one.adding:
            read_mask(one.value)
        elif one.mode == "k":
            # What is said here is read by everybody, and stays.
            raise PermanentFailure(
                "a key is a secret: set it on IRC, and say "
                f"{as_typed('key <key>')} to have it kept here. If your message holds it, delete "
                "the message"
            )
        elif one.mode == "l" and one.value and not one.value.isdecimal():
            raise PermanentFailure("the mode +l takes a number")  # Some servers read a word as 0.
    return changes


async def invite(call: NetworkCall) -> str:
    """Invite somebody into the channel."""
    chat, _ = _channel(call)
    nick = read_nick(call.text)

    async def do(client: IrcClient, connection: Connection, inquiries: Inquiries) -> None:
        await invite_nick(inquiries, chat, nick)

    await _act(call, do)
    return f"{nick} is invited to {chat.name}."


async def kick(call: NetworkCall) -> str:
    """Put somebody out of the channel."""
    chat, _ = _channel(call)
    first, _, rest = call.text.partition(" ")
    nick = read_nick(first)
    reason = cut(" ".join(rest.split()) or "Kicked", REASON_BYTES)

    async def do(client: IrcClient, connection: Connection, inquiries: Inquiries) -> None:
        said = f"{reason} ({call.sender.user_id})" if client is call.relay else reason
        await inquiries.change(
            line("KICK", chat.name, nick, said), wanted={"KICK"}, channel=chat.name
        )

    await _act(call, do)
    return f"{nick} is out of {chat.name}."


async def ban(call: NetworkCall) -> str:
    """Ban a nick or a mask, or lift a ban (``-nick``, ``-mask``)."""
    chat, relay = _channel(call)
    sign, what = ("-", call.text[1:]) if call.text.startswith("-") else ("+", call.text)
    network, nick = relay.network, ""
    async with relay.at_hand() as (_, _, inquiries):
        if any(one in what for one in "!@*$"):
            found = [read_mask(what)]
        elif sign == "-":
            found = await bans.find_about(inquiries, chat, read_nick(what), network)
        else:
            nick = read_nick(what)
            person = await find_person(inquiries, nick, network.fold)
            if person is None:
                raise PermanentFailure(f"there is nobody called {nick}; a mask may be banned, too")
            found = [network.mask_of(person)]
    if not found:
        return f"{chat.name} bans nobody."

    async def do(client: IrcClient, connection: Connection, inquiries: Inquiries) -> None:
        for mask in found:
            changed = line("MODE", chat.name, f"{sign}b", mask)
            answer = await inquiries.change(changed, wanted={"MODE"}, channel=chat.name)
            if sign == "-" and not answer.lines:
                raise PermanentFailure(f"{chat.name} has no ban {mask}")
            if nick:
                person = RemoteUserId(network.fold(nick))
                network.banned.note(chat.id, network.fold(mask), person)

    await _act(call, do)
    done = "banned from" if sign == "+" else "no longer banned from"
    return f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} {done} {chat.name}."


async def names(call: NetworkCall) -> str:
    """Say who is in the channel."""
    chat, relay = _channel(call)
    async with relay.at_hand() as (connection, _, inquiries):
        relay.check_in(chat)
        listed = await inquiries.names(chat.name)
        signs = "".join(connection.isupport.prefixes)
    return show_names(chat.name, listed, signs, relay.network.find_person)


async def modes(call: NetworkCall) -> str:
    """Say which modes the channel has, and whom it bans."""
    chat, relay = _channel(call)
    async with relay.at_hand() as (_, _, inquiries):
        relay.check_in(chat)  # Who is outside is not shown all of it.
        answer = await inquiries.ask(
            line("MODE", chat.name), wanted={replies.CHANNEL_MODES}, channel=chat.name
        )
        banned = await inquiries.bans(chat.name)
    # A key is a secret: who may see it has it from the channel.
    found = [one.param(2) for one in answer.lines]
    masks = [cut(mask, MOST_WORD_BYTES) for mask in banned]
    more = f" and {len(masks) - MOST_BANS} more" if len(masks) > MOST_BANS else ""
    shown = f"Banned: {', '.join(masks[:MOST_BANS])}{more}." if masks else "Nobody is banned."
    return f"{chat.name} has the modes {found[0] if found else '?'}. {shown}"


async def key(call: NetworkCall) -> str:
    """Say whether there is a key, keep one to join with from now on, or forget it."""
    chat, relay = _channel(call)
    keys, said = relay.network.keys, call.text.strip()
    if not said:
        kept = "is" if keys.find(chat.id) is not None else "is not"
        return f"A key of {chat.name} {kept} kept."
    if said in FORGETTING:
        await keys.keep(chat.id, None)
        return f"No key of {chat.name} is kept any more."
    new = Secret(said)
    relay.network.check_key(new)
    with keys.offering(chat.id, new):
        await relay.join(chat, returns=True)  # It may have been shut out.
    await keys.keep(chat.id, new)
    return f"The key of {chat.name} is kept, and we join with it from now on."


async def sync(call: NetworkCall) -> str:
    """Have the room's members compared with the channel's."""
    chat, relay = _channel(call)
    await relay.join(chat, returns=True)  # It may have been shut out.
    async with relay.at_hand() as (_, _, inquiries):
        relay.check_in(chat)
        relay.list_again(chat)
        listed = await inquiries.names(chat.name)
    return f"The room is made like {chat.name}, where {len(listed)} are now."
