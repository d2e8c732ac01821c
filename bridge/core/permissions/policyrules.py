"""Rules of policy lists (Matrix specification, "Moderation policy lists"; MSC2313): read, weighed.

Without I/O. Recommendations other than a ban are left alone, and so are rules without sense.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.core.permissions.blocks import servers_of
from bridge.sdk.globs import LONGEST, Glob
from bridge.sdk.ids import UserId

MOST_AT_ONCE = 10
"""How many people of a room one rule, or a list as it is put in force, may be about unasked."""

MOST_PATTERNS = 10
"""By how many patterns of names one rule may keep people of a network out of a chat."""


class About(StrEnum):
    """What a rule is about."""

    USER = "user"
    SERVER = "server"
    ROOM = "room"


KINDS: Mapping[str, About] = {
    f"{begin}.{about.value}": about
    for begin in ("m.policy.rule", "m.room.rule", "org.matrix.mjolnir.rule")
    for about in About
}
"""Types of rules: as specified, and as they were called before."""

_BANS = frozenset({"m.ban", "org.matrix.mjolnir.ban"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A ban of whoever, or whatever, is like the pattern."""

    about: About
    glob: Glob

    def __str__(self) -> str:
        return self.glob.text


def read_rule(kind: str, content: Mapping[str, Any]) -> Rule | None:
    """Read a state event's content; None if it bans nobody, as when a rule was taken back."""
    about, entity = KINDS.get(kind), content.get("entity")
    if about is None or str(content.get("recommendation")) not in _BANS:
        return None
    if not isinstance(entity, str) or not 0 < len(entity) <= LONGEST:
        return None
    return Rule(about, Glob(entity))


@dataclass(slots=True)
class Ruleset:
    """Rules, and whom they are about."""

    rules: frozenset[Rule]
    _exact: dict[About, set[str]] = field(default_factory=dict)
    _globs: dict[About, list[Glob]] = field(default_factory=dict)
    _known: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "Ruleset":
        """Sort the rules by how they are looked up."""
        made = cls(frozenset(rules), {one: set() for one in About}, {one: [] for one in About})
        for rule in made.rules:
            # Of homeservers it is looked up in small letters.
            text = rule.glob.text.lower() if rule.about is About.SERVER else rule.glob.text
            if rule.glob.is_plain:
                made._exact[rule.about].add(text)
            else:
                made._globs[rule.about].append(Glob(text))
        return made

    def covers(self, person: UserId) -> bool:
        """Whether a rule is about the person, or about the homeserver."""
        found = self._known.get(person)
        if found is None:
            if len(self._known) > 10_000:
                self._known.clear()
            found = self._known[person] = self._is_about(person)
        return found

    def _is_about(self, person: UserId) -> bool:
        if self._matches(About.USER, person):
            return True
        return any(self._matches(About.SERVER, name) for name in servers_of(person))

    def _matches(self, about: About, text: str) -> bool:
        return text in self._exact[about] or any(one.matches(text) for one in self._globs[about])


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What rules would do to a room."""

    in_force: frozenset[Rule]
    """Those that need nothing but having been asked for."""
    held: Mapping[Rule, str]
    """Those that need a yes of their own, each with the reason."""
    about: Sequence[UserId]
    """Whom of the room they are about, all of them together."""

    @property
    def risks(self) -> Sequence[str]:
        """Why they need a yes, a sentence each; empty if they need none."""
        found = [f"{rule} is about {why}" for rule, why in self.held.items()]
        if len(self.about) > MOST_AT_ONCE:
            found.append(f"it is about {len(self.about)} people of this room at once")
        return found


@dataclass(frozen=True, slots=True)
class Aimed:
    """Whom of a network rules are about."""

    patterns: Sequence[str]
    """By their names: these are to be kept out."""
    too_wide: frozenset[Rule]
    """Rules that are about everybody there, or very many: nobody is kept out by that."""


def aim(rules: Iterable[Rule], read: Callable[[str], Sequence[str]]) -> Aimed:
    """See whom of a network the rules are about.

    ``read`` gives a rule's patterns of the ids of people there.
    """
    patterns: set[str] = set()
    too_wide: set[Rule] = set()
    for rule in rules:
        found = read(str(rule)) if rule.about is About.USER else ()
        names = [pattern for pattern in found if pattern.strip("*?")]
        if len(names) < len(found) or len(names) > MOST_PATTERNS:
            too_wide.add(rule)
        else:
            patterns.update(names)
    return Aimed(sorted(patterns), frozenset(too_wide))


def weigh(
    rules: Collection[Rule],
    members: Collection[UserId],
    guarded: Collection[UserId],
    too_wide: Collection[Rule] = frozenset(),
    network: str = "",
) -> Weighed:
    """See whom of the members the rules are about.

    A rule that is about one of the ``guarded``, or about very many, is held; so are those that
    are ``too_wide`` for the network.
    """
    found = Ruleset.of(rules)
    about = sorted({one for one in (*members, *guarded) if found.covers(one)})
    everybody = f"everybody on {network}, or very many there"
    held = dict.fromkeys(sorted(too_wide, key=str), everybody)
    # Whom all rules leave alone, none is about: few are left to be looked at one by one.
    for rule in sorted(rules, key=str) if about else ():
        one_rule = Ruleset.of([rule])
        hit = [person for person in about if one_rule.covers(person)]
        friends = [person for person in hit if person in guarded]
        if not friends and len(hit) <= MOST_AT_ONCE:
            continue
        whom = _names(friends) if friends else f"{len(hit)} people of this room"
        held[rule] = f"{whom}, and {everybody}" if rule in too_wide else whom
    return Weighed(
        in_force=frozenset(rule for rule in rules if rule not in held), held=held,
        about=[one for one in about if one in members],
    )  # fmt: skip


def _names(people: Sequence[str]) -> str:
    more = f" and {len(people) - 5} more" if len(people) > 5 else ""
    return ", ".join(people[:5]) + more


class InForce:
    """Asked of every message: whom the lists of a portal's room keep out of it."""

    def __init__(self) -> None:
        self._rules: dict[int, Ruleset] = {}
        self.waiting: set[int] = set()
        """Portals with lists that are not read yet: what is said there waits."""

    def cover(self, portal: int, person: UserId) -> bool:
        """Whether nothing of the person crosses the portal."""
        rules = self._rules.get(portal)
        return rules is not None and rules.covers(person)

    def put(self, portal: int, rules: Collection[Rule]) -> None:
        """Have these in force there, in place of those before."""
        self.waiting.discard(portal)
        if rules:
            self._rules[portal] = Ruleset.of(rules)
        else:
            self._rules.pop(portal, None)

    def of(self, portal: int) -> frozenset[Rule]:
        """What is in force there."""
        rules = self._rules.get(portal)
        return rules.rules if rules is not None else frozenset()
