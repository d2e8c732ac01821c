"""Masks of people, ``nick!user@host`` with ``*`` and ``?``: whom they hit, which one is right."""

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache

from bridge.networks.irc.wire import Source

Fold = Callable[[str], str]


def hits(mask: str, source: Source, fold: Fold) -> bool:
    """Whether a mask matches somebody, if perhaps others too."""
    return pattern(fold(mask)).match(fold(source.mask)) is not None


@lru_cache(maxsize=512)
def pattern(mask: str) -> re.Pattern[str]:
    """What matches the masks of all whom a mask hits; everything is folded."""
    # A mask knows ``*`` and ``?`` alone; ``[`` may be part of a nick.
    return re.compile(translate(mask.replace("[", "[[]")))


def choose(person: Source, ours: Iterable[Source], fold: Fold) -> str:
    """The mask by which to ban somebody: by the host, unless others of us share it.

    A ban of a host that is ours, too (a gateway, a shell, one machine), would hit all of us: then
    it is by the user name there, or by the nick. One of us is never banned by the host, from which
    others of us may come later. ``ours``: us, as others see us.
    """
    us = list(ours)
    others = [one for one in us if fold(one.nick) != fold(person.nick)]
    masks = [f"*!*@{person.host}"] if person.host and len(others) == len(us) else []
    masks += [f"*!{person.user}@{person.host}"] if person.host and person.user else []
    by_nick = f"{person.nick}!*@*"
    free = (mask for mask in masks if not any(hits(mask, one, fold) for one in others))
    return next(free, by_nick)


def is_about(mask: str, person: Source, fold: Fold) -> bool:
    """Whether a mask means somebody and nobody else: by the nick, or by where they come from.

    Of somebody whose user and host are not known only the nick tells.
    """
    named = Source.parse(fold(mask))
    if "!" not in mask or "@" not in mask:
        return False
    if named.nick == fold(person.nick):
        return not person.host or hits(mask, person, fold)
    is_one_host = bool(person.host) and not any(sign in named.host for sign in "*?")
    return named.nick == "*" and is_one_host and hits(mask, person, fold)
