"""What the people of a room choose for its bridge, by ``set`` and at the web."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.core.host.instances import Instance
from bridge.model import Follow, InstanceRules, Members, Portal, Puppets, Telling, Uncertain
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import UserId
from bridge.settings.nameformat import check_format

DEFAULT = "default"
"""As the settings have it for the network."""
MINE, _BOT = "mine", "bot"
_ON, _OFF = "on", "off"
_ALONE = "whoever it belongs to speaks from their own login, and nobody else does"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants for a room."""

    portal: Portal
    person: UserId
    instance: Instance | None
    """The network, if it is switched on."""
    rules: InstanceRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One thing that can be chosen."""

    help: str
    show: Callable[[Portal], str]
    change: Callable[[Wish, str], Portal]
    """Raises ``PermanentFailure`` for what cannot be."""
    values: tuple[str, ...] = ()
    """All that it takes; none: any text."""
    text: str = ""
    """What the text is, where it takes any."""
    default: Callable[[Wish], str] | None = None
    """What ``default`` means for a room, where it is a value."""
    in_direct: str = ""
    """Why it changes nothing in a direct chat; empty: it does."""

    @property
    def takes(self) -> str:
        """What can be said, in words."""
        *others, last = self.values or (self.text,)
        return f"{', '.join(others)} or {last}" if others else last

    def describe(self, wish: Wish) -> str:
        """What is chosen, with what can be."""
        is_fixed = bool(self.in_direct) and _is_direct(wish)
        is_default = is_fixed and self.default is not None
        chosen = DEFAULT if is_default else self.show(wish.portal)
        # Of a network that is switched off it is not known.
        if chosen == DEFAULT and self.default is not None and wish.instance is not None:
            chosen = f"{DEFAULT}, here {self.default(wish)}"
        return f"{chosen} ({self.in_direct if is_fixed else f'{self.takes}; {self.help}'})"

    def refuse_in_vain(self, wish: Wish, value: str) -> None:
        """Raise ``PermanentFailure`` for what would change nothing where it is said."""
        if not self.in_direct or not _is_direct(wish):
            return
        as_is = {DEFAULT, self.show(wish.portal)}
        if _BOT in self.values:
            as_is.add(_BOT)
        if value not in as_is and not (self.default and value == self.default(wish)):
            raise PermanentFailure(f"that changes nothing in a direct chat: {self.in_direct}")


def read_typed(words: Sequence[str]) -> tuple[str, str]:
    """A key and the value after it, however somebody wrote them."""
    key, value = words[0].casefold(), " ".join(words[1:])
    choice = CHOICES.get(key)
    is_named = choice is not None and (choice.values or value.casefold() == DEFAULT)
    return key, value.casefold() if is_named else value


def change(key: str, value: str, wish: Wish) -> Portal:
    """The portal as it would be. Raises ``PermanentFailure`` with what can be chosen."""
    choice = CHOICES.get(key)
    if choice is None:
        raise PermanentFailure(
            f"say {as_typed('set')} alone to see what there is, or with a key and one of its "
            f"values: {as_typed('set uncertain hold')}"
        )
    if choice.values and value not in choice.values:
        raise PermanentFailure(f"{key} takes {choice.takes}")
    choice.refuse_in_vain(wish, value)
    return choice.change(wish, value)


def change_all(values: Mapping[str, str], wish: Wish) -> Portal:
    """The same for several keys, one after the other."""
    for key, value in values.items():
        wish = replace(wish, portal=change(key, value, wish))
    return wish.portal


def chosen_as(portal: Portal, chosen: Portal) -> Portal:
    """The portal with what is chosen in another state of it; all else as it is."""
    return replace(portal, **{key: getattr(chosen, key) for key in CHOICES})


def describe(wish: Wish) -> str:
    """All that is chosen and can be, a line each, and how it is changed."""
    return "\n".join((
        *(f"{key}: {one.describe(wish)}" for key, one in CHOICES.items()),
        f"To change one, say for example {as_typed('set members full')}",
    ))  # fmt: skip


def _has_puppets(wish: Wish) -> bool:
    connector = wish.instance.connector if wish.instance else None
    return connector is not None and connector.capabilities(wish.portal.chat).puppets


def _is_direct(wish: Wish) -> bool:
    return wish.portal.receiver is not None


def _default_members(wish: Wish) -> str:
    members = Members.SPEAKERS if _is_direct(wish) else wish.rules.members
    return members.value


def _default_puppets(wish: Wish) -> str:
    puppets = wish.rules.puppets
    return puppets.value if _has_puppets(wish) else Puppets.RELAY.value


def _set_puppets(wish: Wish, value: str) -> Portal:
    if value == DEFAULT:
        return replace(wish.portal, puppets=None)
    puppets = Puppets(value)
    if puppets is Puppets.AUTOMATIC and wish.rules.puppets is not Puppets.AUTOMATIC:
        raise PermanentFailure("the settings let nobody have a connection made for them there")
    return replace(wish.portal, puppets=puppets)


def _set_privacy(wish: Wish, value: str) -> Portal:
    if value == DEFAULT:
        return replace(wish.portal, privacy=None)
    puppets = wish.portal.puppets or wish.rules.puppets
    if value == _ON and (puppets is Puppets.RELAY or not _has_puppets(wish)):
        raise PermanentFailure("nobody is seen there: one connection speaks for all")
    return replace(wish.portal, privacy=value == _ON)


def _set_relay_name(wish: Wish, value: str) -> Portal:
    if value == DEFAULT:
        return replace(wish.portal, relay_name=None)
    try:
        return replace(wish.portal, relay_name=check_format(value))
    except ValueError as error:
        raise PermanentFailure(str(error)) from error


def _set_relay(wish: Wish, value: str) -> Portal:
    if value == _BOT:
        return replace(wish.portal, relay=None)
    own = wish.instance.logins_of(wish.person) if wish.instance else ()
    if not own:
        name = wish.portal.instance
        can = wish.instance is not None and bool(wish.instance.connector.login_flows())
        way = f"say {as_typed(f'login {name}')}" if can else "nobody can link an account there"
        raise PermanentFailure(f"you have no login on {name}; {way}")
    return replace(wish.portal, relay=own[0].row.id)


CHOICES: Mapping[str, Choice] = {
    "uncertain": Choice(
        values=tuple(Uncertain),
        help="what is done with a message that may have been sent before an interruption",
        show=lambda portal: portal.uncertain.value,
        change=lambda wish, value: replace(wish.portal, uncertain=Uncertain(value)),
    ),
    "telling": Choice(
        values=tuple(Telling),
        help="how its sender is told",
        show=lambda portal: portal.telling.value,
        change=lambda wish, value: replace(wish.portal, telling=Telling(value)),
    ),
    "follow": Choice(
        values=tuple(Follow),
        help="what the room takes over from the chat, and the chat from the room",
        show=lambda portal: portal.follow.value,
        change=lambda wish, value: replace(wish.portal, follow=Follow(value)),
    ),
    "members": Choice(
        values=(*Members, DEFAULT),
        help="who of the chat is shown in the room: everybody, those who have spoken, or nobody",
        show=lambda portal: portal.members.value if portal.members else DEFAULT,
        change=lambda wish, value: replace(
            wish.portal, members=None if value == DEFAULT else Members(value)
        ),
        default=_default_members,
        in_direct="whom it is with is shown here, and nobody else is there",
    ),
    "privacy": Choice(
        values=(_ON, _OFF, DEFAULT),
        help="nothing comes in while somebody reads here who is not seen there",
        show=lambda portal: DEFAULT if portal.privacy is None else _ON if portal.privacy else _OFF,
        change=_set_privacy,
        default=lambda wish: _ON if wish.rules.privacy and not _is_direct(wish) else _OFF,
        in_direct="nobody there sees who reads here",
    ),
    "puppets": Choice(
        values=(*Puppets, DEFAULT),
        help="whose account speaks for people",
        show=lambda portal: portal.puppets.value if portal.puppets else DEFAULT,
        change=_set_puppets,
        default=_default_puppets,
        in_direct=_ALONE,
    ),
    "relay_name": Choice(
        text=f"a text with {{name}}, {{user}}, {{localpart}} or {{server}}, or {DEFAULT}",
        help="how the relay names people",
        show=lambda portal: portal.relay_name or DEFAULT,
        change=_set_relay_name,
        default=lambda wish: wish.rules.relay_name,
        in_direct=_ALONE,
    ),
    "relay": Choice(
        values=(MINE, _BOT),
        help="whose login speaks for those who have none",
        show=lambda portal: _BOT if portal.relay is None else f"login {portal.relay}",
        change=_set_relay,
        in_direct=_ALONE,
    ),
}
