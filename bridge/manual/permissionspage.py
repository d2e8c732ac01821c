"""What a level may do, as one table: ``docs/reference/permissions.md``."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge.core.commands.commands import MainBot
from bridge.core.commands.networkcommands import actions_of, declared
from bridge.core.host.actions import Action
from bridge.core.host.catalogue import installed
from bridge.model import Permission
from bridge.sdk.ids import InstanceId

DONE, NO_POWER, NO_LEVEL, NOT_HERE, UNHEARD = "done", "power", "level", "room", "–"
"""What comes of a command."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Who says a command, and how."""

    name: str
    words: str
    is_heard: bool = True
    has_power: bool = True
    is_elsewhere: bool = False
    level: Permission = Permission.USER


SITUATIONS = (
    Situation("power 0", "somebody without power in the room", has_power=False),
    Situation("power 50", "a moderator"),
    Situation("power 100", "an admin of the room"),
    Situation("creator", "who made a room of version 12, and stands in no list of powers"),
    Situation("banned", "somebody who was banned: the homeserver takes nothing", is_heard=False),
    Situation("ghost", "a person on a network, whatever power the ghost has", is_heard=False),
    Situation("bot", "a bot of ours, whatever power it has", is_heard=False),
    Situation("edited in", "an admin changes an earlier message into it", is_heard=False),
    Situation("redacted", "an admin takes it back before it is handled", is_heard=False),
    Situation("replayed", "the homeserver gives us the same event again", is_heard=False),
    Situation(
        "other room", "an admin of another room says it there; it is not bridged",
        is_elsewhere=True,
    ),
    Situation(
        "admin", "somebody of level `admin`, without power in the room, which Trestle made",
        level=Permission.ADMIN,
    ),
)  # fmt: skip


def outcome(action: Action, who: Situation) -> str:
    """What comes of the command when somebody says it in such a situation."""
    if not who.is_heard:
        return UNHEARD
    if action.level > who.level:
        return NO_LEVEL
    if action.needs_power and not who.has_power:
        return NO_POWER
    return NOT_HERE if action.of_room and who.is_elsewhere else DONE


def permissions_page() -> str:
    """The text of ``docs/reference/permissions.md``."""
    actions = list(_actions())
    return "\n".join([*_levels(actions), *_outcomes(actions), *_admins()]) + "\n"


def _actions() -> Iterator[Action]:
    """Every command there is: the main bot's, and those of the networks that are shipped."""
    # Only what the bot declares is read; nothing of it is run.
    nothing: dict[str, Any] = dict.fromkeys(inspect.signature(MainBot).parameters)
    yield from MainBot(**nothing).actions.values()
    for module in installed().values():
        if not module.is_bot and module.entry.value.startswith("bridge."):
            yield from actions_of(InstanceId(module.name), declared(module.load()))


def _levels(actions: list[Action]) -> Iterator[str]:
    yield "# Who may do what"
    yield ""
    yield "Made from what `bridge/core/commands` and the networks that are shipped declare."
    yield "`irc` before a command stands for the name of a network of that module, as in"
    yield "`!trestle libera whois`."
    yield ""
    yield "`permissions` in config.yaml gives each person a level: by the Matrix id, else by the"
    yield "server, else by `*`. Without a line for `*`, your own server is `user` and the rest"
    yield "`none`; with one, it holds for your own server too, unless that has a line of its own:"
    yield '`{"*": none, "@me:example.org": admin}` lets in one person, and a further line'
    yield '`"@spam:example.org": none` keeps one out, after `trestle reload`. A module may have'
    yield "`permissions` of its own, which come first for it. Each level includes those before it."
    yield "What a server written without a port may not do, it may not at any port; what it may"
    yield "do, it may only as it is written."
    yield "Ghosts and bots have none, whatever is written."
    yield ""
    yield "So what people of other homeservers say in a bridged room stays in Matrix, unless"
    yield 'the settings let them speak: `{"*": relay, "example.org": user}` for all of them, a'
    yield "line like `other.example: relay` for those of one. Each is told so once in each room,"
    yield "with `web.policy` and `web.contact` if they are set; those who said `!trestle optout`"
    yield "are not told."
    yield ""
    yield "| level | may | commands |"
    yield "|---|---|---|"
    words = {
        Permission.NONE: "nothing: what they say stays in Matrix, as they are told once in each "
        "room, and bots hear from them only that they want no part in it, which they cannot take "
        "back themselves",
        Permission.RELAY: "be heard on a network, by the relay's voice",
        Permission.USER: "speak from a connection or an account of their own, invite bots, give "
        "them commands, sign in at the web",
        Permission.ADMIN: "see how everything is, acknowledge troubles; invited to the status "
        "room; run the rooms that Trestle made",
    }
    for level, text in words.items():
        here = [one for one in actions if one.level is level]
        names = ", ".join(f"`{one.name}`" for one in here if one.network is None)
        if any(one.network is not None for one in here):
            names += ", commands of networks"
        yield f"| `{level.name.lower()}` | {text} | {names} |"
    yield ""
    named = ", ".join(f"`{one.name}`" for one in actions if one.of_network and one.network is None)
    yield f"For {named} and the commands of networks"
    yield "the level counts that somebody has for the network that is meant; for the rest, the"
    yield "highest that they have anywhere, and for the commands of `admin` the general one."
    yield ""
    yield "In the web, on its pages and for programs, the level for the network counts too: to"
    yield "sign in to it, to prefer a login, to bridge a room, to see, change and end its bridge."
    yield "It is checked at each request: whoever has lost it can see and end their own logins and"
    yield "sessions, and no more, however they signed in before."


def _outcomes(actions: list[Action]) -> Iterator[str]:
    yield ""
    yield "## In a room"
    yield ""
    yield "In a room that people made, a level alone changes nothing: it also takes the power to"
    yield "change the room's settings (to send `m.bridge`: usually a moderator's). What counts is"
    yield "the power at the moment when the command was said, not when it is handled."
    yield ""
    yield "In a room that Trestle made for a channel (by an alias, or by `join`) nobody from"
    yield "Matrix has power at first. So whoever is `admin` for the network needs none there, nor"
    yield "in a room that replaces it: to say a command, to change or end the bridge in the web"
    yield "(also from outside the room), and to answer for what the settings declare. Whoever is"
    yield "that when they come in gets power 100; the channel's operators keep theirs. On the"
    yield "machine `trestle rooms` lists all bridged rooms, and unties them, without any level or"
    yield "power."
    yield ""
    yield "Somebody says a command in a bridged room, of level `user` but in the last column:"
    yield ""
    yield f"| command | {' | '.join(one.name for one in SITUATIONS)} |"
    yield "|---" * (len(SITUATIONS) + 1) + "|"
    alike: dict[str, list[str]] = {}
    for action in actions:
        found = " | ".join(outcome(action, one) for one in SITUATIONS)
        alike.setdefault(found, []).append(f"`{action.name}`")
    for found, names in alike.items():
        yield f"| {', '.join(names)} | {found} |"
    yield ""
    yield f"`{DONE}`: neither level, power nor room is in its way. `{NO_POWER}`, `{NO_LEVEL}`,"
    yield f"`{NOT_HERE}`: it is refused, with a sentence, for want of power or level, or because"
    yield f"it is about the bridge of the room in which it is said. `{UNHEARD}`: nothing happens."
    yield "(`where` is said as a reply to one's own message in the bridged room; about somebody"
    yield "else's it needs power.)"
    looking = [f"`{action.name}`" for action in actions if action.looks_alone]
    yield f"With nothing after it {' or '.join(looking)} only looks, and needs no power."
    yield ""
    for one in SITUATIONS:
        yield f"- *{one.name}*: {one.words}."


def _admins() -> Iterator[str]:
    yield ""
    yield "## Admins"
    yield ""
    yield "A level is about networks, bots and rooms, and not about data of other people: in"
    yield "the web an admin sees all bridged rooms, and no direct chats but their own; in `status`"
    yield "those of others have no names. Admins that `permissions` names by their Matrix ids are"
    yield "invited to the status room, and answer for `rooms` of config.yaml; without one there is"
    yield "neither."
