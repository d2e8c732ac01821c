"""What people say about the policy lists of their rooms, and what they are told."""

from collections.abc import Sequence

from bridge.core.consent.policies import Policies, Rules
from bridge.core.permissions.policyrules import About, Rule, Weighed
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.intents import Intents
from bridge.model import Subscription
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId

_MOST_LISTS = 10
_SHOWN = 20
"""Names that one answer holds of a kind."""


class PolicyCommand:
    """Obeys ``policy``, for one portal at a time. What is done is looked at first."""

    def __init__(self, policies: Policies, intents: Intents) -> None:
        self._policies = policies
        self._intents = intents

    async def obey(self, door: Doorway, by: UserId, words: Sequence[str]) -> str:
        """Do it; give the answer. Raises a ``DeliveryError`` or :class:`MatrixError`."""
        match words:
            case ():
                return await self._list(door)
            case ("apply", name):
                return await self._apply(door, name, by, agreed=False)
            case ("apply", name, "yes"):
                return await self._apply(door, name, by, agreed=True)
            case ("off", name):
                return await self._end(door, name, by)
            case (name,) if name[:1] in {"#", "!"}:
                return await self._look(door, name, by)
        raise PermanentFailure(
            f"say {as_typed('policy')} and the room of a list (#list:example.org), then "
            f"{as_typed('policy apply')} or {as_typed('policy off')} with it"
        )

    async def _list(self, door: Doorway) -> str:
        lines = []
        for one in self._policies.of(door):
            how = "in force" if one.applied else "looked at, not in force"
            how += ", also where it is about very many" if one.agreed else ""
            lines.append(f"{await self._name(one.room)}: {how}; {one.by} asked for it.")
        return "\n".join(lines) or (
            f"{door.portal.chat_name} follows no policy list. Say {as_typed('policy')} and the "
            "room of one, to see what it would do."
        )

    async def _look(self, door: Doorway, name: str, by: UserId) -> str:
        followed = {one.room for one in self._policies.of(door)}
        if len(followed) >= _MOST_LISTS and await self._room(name) not in followed:
            raise PermanentFailure(f"{_MOST_LISTS} lists are as many as a room may follow")
        one, rules = await self._policies.look(door, name, by)
        weighed = await self._policies.weigh(door, list(rules.values()), by)
        lines = [
            f"{await self._name(one.room)} has {_count(rules)}.",
            self._about_people(door, weighed),
            self._about_bans(door, list(rules.values())),
            *(f"Take care: {risk}." for risk in weighed.risks),
        ]
        yes = " yes" if weighed.risks else ""
        lines.append(
            "It is in force."
            if one.applied
            else "Nothing of that is done yet. Say "
            f"{as_typed(f'policy apply {name}{yes}')} to have it in force."
        )
        return "\n".join(line for line in lines if line)

    def _about_people(self, door: Doorway, weighed: Weighed) -> str:
        portal = door.portal
        people = self._policies.crossing(door, weighed.about)
        if not people:
            return f"It is about nobody who is in this room now. {_LATER}"
        return (
            f"In this room it is about {_names(people)}: nothing that they say would reach "
            f"{portal.chat_name} on {portal.instance}. {_LATER}"
        )

    def _about_bans(self, door: Doorway, rules: Sequence[Rule]) -> str:
        portal = door.portal
        aimed = self._policies.aim(rules, portal.instance)
        said = []
        if aimed.patterns:
            said.append(
                f"It names people of {portal.instance}, who would be banned from "
                f"{portal.chat_name} as far as I have the right to: {_names(aimed.patterns)}."
            )
        if aimed.too_wide:
            said.append(
                f"Nobody is ever banned from {portal.chat_name} by a rule that is about everybody "
                f"on {portal.instance}, or very many there: "
                f"{_names(sorted(map(str, aimed.too_wide)))}."
            )
        return "\n".join(said)

    async def _apply(self, door: Doorway, name: str, by: UserId, *, agreed: bool) -> str:
        one = await self._find(door, name)
        rules = await self._policies.read(one.room)
        weighed = await self._policies.weigh(door, list(rules.values()), by)
        if weighed.risks and not agreed:
            raise PermanentFailure(
                f"{'; '.join(weighed.risks)}. If that is meant, say "
                f"{as_typed(f'policy apply {name} yes')}"
            )
        await self._policies.apply(door, one, by, agreed=agreed)
        return f"{await self._name(one.room)} is in force for {door.portal.chat_name}."

    async def _end(self, door: Doorway, name: str, by: UserId) -> str:
        one = await self._find(door, name)
        shown = await self._name(one.room)
        await self._policies.end(door, one, by)
        return f"{door.portal.chat_name} does not follow {shown} any more."

    async def _find(self, door: Doorway, name: str) -> Subscription:
        room = await self._room(name)
        found = [one for one in self._policies.of(door) if one.room == room]
        if not found:
            raise PermanentFailure(
                f"{door.portal.chat_name} does not follow {name}; say "
                f"{as_typed(f'policy {name}')} first, to see what it would do"
            )
        return found[0]

    async def _room(self, name: str) -> RoomId | None:
        return RoomId(name) if name.startswith("!") else await self._intents.room_at(name)

    async def _name(self, room: RoomId) -> str:
        name = await self._intents.room_name(room)
        return name if name == room else f"{name} ({room})"


_LATER = "The same goes for anyone who comes later."


def _count(rules: Rules) -> str:
    """How many rules of which kind; a list may say the same twice."""
    each = {about: {one for one in rules.values() if one.about is about} for about in About}
    number = sum(map(len, each.values()))
    of_rooms = "; those about rooms do nothing here" if each[About.ROOM] else ""
    return (
        f"{number} {'rule' if number == 1 else 'rules'} ({len(each[About.USER])} about people, "
        f"{len(each[About.SERVER])} about homeservers, {len(each[About.ROOM])} about rooms"
        f"{of_rooms})"
    )


def _names(found: Sequence[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
