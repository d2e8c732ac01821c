"""What is done to a channel for a room: topic, ranks, who has to go."""

from bridge.networks.irc.isupport import Isupport
from bridge.networks.irc.network import Network
from bridge.networks.irc.wire import Line, cut, line
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Rank, RemoteChat, Removal
from bridge.sdk.ids import RemoteUserId, UserId

_LETTERS = {Rank.VOICED: "v", Rank.HELPER: "h", Rank.MODERATOR: "o", Rank.OWNER: "o"}
_OURS = "ohv"
"""The ranks that we give and take. What stands above an operator is the channel's own."""
_TOPIC_BYTES = 390
_REASON_BYTES = 200


def topic_lines(chat: RemoteChat, topic: str, limits: Isupport) -> list[Line]:
    """Set a topic, cut to what the server takes."""
    most = int(limits.tokens.get("TOPICLEN", "") or _TOPIC_BYTES)
    return [line("TOPIC", chat.name, cut(" ".join(topic.split()), min(most, _TOPIC_BYTES)))]


def rank_lines(
    chat: RemoteChat, person: RemoteUserId | UserId, rank: Rank, network: Network, limits: Isupport
) -> list[Line]:
    """Give somebody a rank, and take the others; empty if they hold it."""
    nick = _nick_of(person, network)
    held = network.ranks.get(chat.id, {}).get(limits.fold(nick), "")
    wanted = _LETTERS.get(rank, "")
    if wanted and wanted not in limits.prefixes.values():
        raise PermanentFailure(f"this network has no rank like that ({wanted})")
    changes = [f"-{letter}" for letter in _OURS if letter in held and letter != wanted]
    changes += [f"+{wanted}"] if wanted and wanted not in held else []
    # One a line: a list of modes with values was once given to the wrong people.
    return [line("MODE", chat.name, change, nick) for change in changes]


def removal_lines(
    chat: RemoteChat, person: RemoteUserId | UserId, how: Removal, reason: str, network: Network
) -> list[Line]:
    """Put somebody out of a channel, for now or for good, or let them in again."""
    nick = _nick_of(person, network)
    mask = network.mask_of(chat.id, nick)
    ban = line("MODE", chat.name, "-b" if how is Removal.UNBAN else "+b", mask)
    kick = line("KICK", chat.name, nick, cut(" ".join(reason.split()), _REASON_BYTES))
    return {Removal.KICK: [kick], Removal.BAN: [ban, kick], Removal.UNBAN: [ban]}[how]


def _nick_of(person: RemoteUserId | UserId, network: Network) -> str:
    if not person.startswith("@"):
        return person
    nick = network.nick_held_by(UserId(person))
    if nick is None:
        raise PermanentFailure(f"{person} has no connection there just now")
    return nick
