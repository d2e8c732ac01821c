"""What is done to a channel for a room: topic, ranks, who has to go, who is asked in."""

from bridge.networks.irc.channels import bans
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.names.targets import read_nick
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Line, Source, cut, line
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Rank, RemoteChat, Removal
from bridge.sdk.ids import RemoteUserId, UserId

_LETTERS = {Rank.VOICED: "v", Rank.HELPER: "h", Rank.MODERATOR: "o", Rank.OWNER: "o"}
_OURS = "ohv"
"""The ranks that we give and take. What stands above an operator is the channel's own."""
_REASON_BYTES = 200


def topic_line(chat: RemoteChat, topic: str, limits: Isupport) -> Line:
    """Set a topic, cut to what the server takes."""
    return line("TOPIC", chat.name, cut(" ".join(topic.split()), limits.topic_length))


async def set_topic(
    inquiries: Inquiries, chat: RemoteChat, topic: str, network: Network, limits: Isupport
) -> None:
    """Set a room's topic in its channel. Raises a ``DeliveryError``."""
    one = topic_line(chat, topic, limits)
    with network.topics.setting(chat.id, one.params[-1]):
        await inquiries.ask(one, wanted=())


def rank_lines(
    chat: RemoteChat, person: RemoteUserId | UserId, rank: Rank, network: Network, limits: Isupport
) -> list[Line]:
    """Give somebody a rank, and take the others; empty if they hold it.

    Where the network has no such rank it is the next lower one that it has.
    """
    nick = _nick_of(person, network)
    held = network.ranks.get(chat.id, {}).get(limits.fold(nick), "")
    there = limits.prefixes.values()
    lower = (_LETTERS[one] for one in sorted(_LETTERS, reverse=True) if one <= rank)
    wanted = next((letter for letter in lower if letter in there), "")
    # First what is too much is taken: that must not fail for what cannot be given.
    changes = [f"-{letter}" for letter in _OURS if letter in held and letter != wanted]
    changes += [f"+{wanted}"] if wanted and wanted not in held else []
    if rank and not (wanted or changes):
        raise PermanentFailure(f"this network has no rank like that ({_LETTERS[rank]})")
    # One a line: a list of modes with values was once given to the wrong people.
    return [line("MODE", chat.name, change, nick) for change in changes]


async def remove(
    inquiries: Inquiries,
    chat: RemoteChat,
    person: RemoteUserId | UserId,
    how: Removal,
    reason: str,
    network: Network,
) -> None:
    """Put somebody out of a channel, for now or for good, or let them in again.

    Raises a ``DeliveryError``. Somebody whom no ban hits is let in already.
    """
    # Somebody who was banned as a stranger may be let in, whoever has the nick now.
    nick = _nick_of(person, network, may_be_ours=how is Removal.UNBAN)
    if how is Removal.UNBAN:
        await _let_in(inquiries, chat, nick, network)
        return
    if how is Removal.BAN:
        known = network.find_person(nick)
        mask = network.mask_of(known.source if known is not None else Source(nick))
        await inquiries.ask(line("MODE", chat.name, "+b", mask), wanted=())
        network.banned.note(chat.id, network.fold(mask), RemoteUserId(network.fold(nick)))
    said = cut(" ".join(reason.split()), _REASON_BYTES)
    try:
        await inquiries.ask(line("KICK", chat.name, nick, said), wanted=())
    except replies.CommandRefusedError as error:
        # Of somebody who is not there the ban is all that can be done.
        if how is not Removal.BAN or error.code not in replies.NOT_THERE:
            raise


async def invite(
    inquiries: Inquiries, chat: RemoteChat, person: RemoteUserId, network: Network
) -> bool:
    """Invite somebody into a channel; False if they are there already.

    Raises a ``DeliveryError``.
    """
    nick = _nick_of(person, network)
    try:
        await invite_nick(inquiries, chat, nick)
    except replies.CommandRefusedError as error:
        if error.code != replies.THERE_ALREADY:
            raise
        return False
    return True


async def invite_nick(inquiries: Inquiries, chat: RemoteChat, nick: str) -> None:
    """Invite whoever has a nick into a channel.

    Raises a ``DeliveryError``: the channel's refusal, also where they are there already.
    """
    await inquiries.change(line("INVITE", nick, chat.name), wanted={replies.INVITING})


async def _let_in(inquiries: Inquiries, chat: RemoteChat, nick: str, network: Network) -> None:
    for mask in await bans.find_about(inquiries, chat, nick, network):
        await inquiries.ask(line("MODE", chat.name, "-b", mask), wanted=())
        network.banned.forget(chat.id, network.fold(mask))


def _nick_of(person: RemoteUserId | UserId, network: Network, *, may_be_ours: bool = False) -> str:
    """The nick of one of our people, or that which an id stands for.

    Anybody can write down the id of one who was never there: it may hold whatever a line takes
    for a pattern or for several names, and it may be the nick of one of us. Raises
    ``PermanentFailure`` for such a one.
    """
    if person.startswith("@"):
        held = network.nick_held_by(UserId(person))
        if held is None:
            raise PermanentFailure(f"{person} has no connection there just now")
        return held
    nick = read_nick(person)
    seen = network.find_person(nick)
    is_stranger = seen is not None and network.is_known_stranger(seen.source)
    if not (may_be_ours or is_stranger):
        network.refuse_ours(nick, "do it to them in Matrix")
    return nick
