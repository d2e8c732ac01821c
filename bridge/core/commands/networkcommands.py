"""Commands of networks: found by their words, allowed by the same table as all others, run."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from bridge.core.host.actions import Action, Order, did_you_mean
from bridge.core.host.announcing import Announcer
from bridge.core.host.bots import BotCall
from bridge.core.host.instances import Instance, Session
from bridge.core.logins.ownlogins import own_login
from bridge.core.portals.directchats import DirectChats
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.rooms.admission import WAYS, Admission, read_admission
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError, heed_token
from bridge.matrix.intents import Intents
from bridge.model import InstanceRules, Permission
from bridge.sdk.commands import (
    HOSTS_OWN,
    NetworkCall,
    NetworkCommand,
    TakesCommands,
    Where,
    as_typed,
)
from bridge.sdk.errors import (
    DeliveryUncertain,
    ModuleError,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import RemoteChat, Sender
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.module import Client, FindsChats, HasDirectChats
from bridge.sdk.secret import Secret

_SPARE_SECONDS = 5.0
"""Of the time that a bot has for one event: enough to say that a network did not answer. Cancelled
at its end, the event would be taken for one that hangs, and the command be run again."""
_LONGEST_NAME, _ALIKE = 40, 0.8
"""Of a word that is compared with the names of commands; from where on it is taken for one."""
_SHORT, _SHORT_ALIKE = 4, 0.6
"""The same for a word of so few letters that one slip is much of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A command as a module gets it (``sdk.NetworkCall``)."""

    sender: Sender
    text: str
    chat: RemoteChat | None
    own: Client | None
    own_trouble: str
    relay: Client


async def _not_run(call: NetworkCall) -> str:
    raise PermanentFailure("that is done by the bridge, not by its network")


JOIN = NetworkCommand(
    name="join", usage="join <chat> [key]", where=Where.PERSON, run=_not_run, secret_after=1,
    help="have a room for a chat, and be invited into it",
)  # fmt: skip
"""What the core does for every network whose chats can be named."""


QUERY = NetworkCommand(
    name="query", usage="query <person>", where=Where.PERSON, run=_not_run,
    help="have a direct chat with a person, and be invited into it",
)  # fmt: skip
"""The same for every network on which one talks with a person alone."""


def declared(connector: object) -> Sequence[NetworkCommand]:
    """All that people may tell a network, by its connector or the connector's class."""
    own: tuple[NetworkCommand, ...] = ()
    if isinstance(connector, TakesCommands):
        own = tuple(one for one in connector.commands if one.name not in HOSTS_OWN)
    own = (*own, JOIN) if isinstance(connector, FindsChats) else own
    return (*own, QUERY) if isinstance(connector, HasDirectChats) else own


Run = Callable[[InstanceId, NetworkCommand, Order], Awaitable[str]]


async def _nothing(name: InstanceId, command: NetworkCommand, order: Order) -> str:
    raise PermanentFailure("nothing is done here")


def actions_of(
    name: InstanceId, commands: Iterable[NetworkCommand], run: Run = _nothing
) -> Sequence[Action]:
    """The commands of a network as actions of the bot. Without ``run`` they can only be read."""

    def action(one: NetworkCommand) -> Action:
        async def do(order: Order) -> str:
            return await run(name, one, order)

        return Action(
            name=f"{name} {one.name}", usage=f"{name} {one.usage}", help=one.help,
            level=Permission.USER, run=do, needs_power=one.needs_power, of_network=True,
            words=one.words, looks_alone=one.looks_alone,
            of_room=one.where is Where.ROOM, network=name, is_private=one.is_private,
        )  # fmt: skip

    return [action(one) for one in commands]


class NetworkCommands:
    """What people say to the main bot for their networks."""

    def __init__(
        self,
        plumbing: Plumbing,
        portals: Portals,
        intents: Intents,
        announcer: Announcer,
        rules: Callable[[InstanceId], InstanceRules],
        allows: Callable[[UserId, Permission, InstanceId | None], bool],
        bot: UserId,
    ) -> None:
        self._plumbing = plumbing
        self._portals = portals
        self._intents = intents
        self._announcer = announcer
        self._rules = rules
        self._allows = allows
        self._bot = bot
        self.direct_chats: DirectChats

    def networks(self, person: UserId) -> Mapping[InstanceId, Sequence[NetworkCommand]]:
        """The commands that the person may give, by network."""
        return {
            name: commands
            for name, instance in sorted(self._plumbing.instances.items())
            if self._allows(person, Permission.USER, name)
            and (commands := declared(instance.connector))
        }

    def find(self, call: BotCall, text: str) -> tuple[Action, Order] | None:
        """Read what was said as a network's command; None if it is none.

        ``libera whois carl``, or without the network where only one can be meant; those of the
        room come before others. Raises ``PermanentFailure`` if that is not clear.
        """
        first, rest = first_word(text)
        word, person = first.casefold(), call.sender.user_id
        networks = self.networks(person)
        if word in networks:
            name, (second, rest) = InstanceId(word), first_word(rest)
            return self._named(call, name, networks[name], second.casefold() or "help", rest)
        knowing = [name for name in networks if word in {one.name for one in networks[name]}]
        here = {door.portal.instance for door in self._portals.in_room(call.room)}
        knowing = [name for name in knowing if name in here] or knowing
        if len(knowing) > 1:
            ways = " or ".join(as_typed(f"{name} {word}", direct=call.direct) for name in knowing)
            raise PermanentFailure(f"say which network is meant: {ways}")
        if not knowing:
            return None
        return self._named(call, knowing[0], networks[knowing[0]], word, rest)

    def is_one(self, call: BotCall, text: str) -> bool:
        """Whether what was said is a network's command, also one that is not clear."""
        try:
            return self.find(call, text) is not None
        except PermanentFailure:
            return True

    def is_secret(self, text: str) -> bool:
        """Whether it may be a command that takes a secret, whoever gives it and however it is
        misspelled."""
        known: dict[str, set[int]] = {}
        """After how many words a command takes a secret, on one network or another."""
        for instance in self._plumbing.instances.values():
            for one in declared(instance.connector):
                after = 0 if one.is_private else one.secret_after
                known.setdefault(one.name, set()).update(() if after is None else {after})
        words = text.casefold().split()
        # The first word may be the network's name, unless it is surely the command.
        places = (0,) if words and words[0] in known else (0, 1)
        for place, word in zip(places, words, strict=False):
            alike = _ALIKE if len(word) > _SHORT else _SHORT_ALIKE
            names = difflib.get_close_matches(word[:_LONGEST_NAME], known, n=1, cutoff=alike)
            if any(len(words) - place - 1 > after for name in names for after in known[name]):
                return True
        return False

    def secrets(self) -> Collection[str]:
        """The commands that take nothing but a secret, with a network's name before them and
        without."""
        return {
            said
            for name, instance in self._plumbing.instances.items()
            for one in declared(instance.connector)
            if one.secret_after == 0
            for said in (one.name, f"{name} {one.name}")
        }

    def _named(
        self, call: BotCall, name: InstanceId, commands: Sequence[NetworkCommand], word: str,
        rest: str,
    ) -> tuple[Action, Order]:  # fmt: skip
        actions = {
            action.name.partition(" ")[2]: action
            for action in actions_of(name, commands, self._run)
        }
        if word == "help":
            order = Order.read(call, rest)
            return _saying(name, _describe(name, commands, order.words[:1])), order
        if word not in actions:
            raise _no_such(name, commands, word)
        return actions[word], Order.read(call, rest, actions[word].words)

    # --- help ---

    def summary(self, order: Order) -> Sequence[str]:
        """A line for each network: which commands it takes."""
        return [
            f"{name} takes: {', '.join(one.name for one in commands)}. "
            f"Say {order.as_typed(f'{name} help')}."
            for name, commands in self.networks(order.sender).items()
        ]

    def names(self, person: UserId) -> Collection[str]:
        """All that the person may say for networks: their names, and their commands."""
        networks = self.networks(person)
        return {*networks, *(one.name for commands in networks.values() for one in commands)}

    def describe(self, person: UserId, words: Sequence[str]) -> str:
        """The commands of a network, one of them, or one of all networks that take it.

        Empty if there are none. Raises ``PermanentFailure`` if the network has no such command.
        """
        networks, word = self.networks(person), words[0].casefold()
        if word in networks:
            name = InstanceId(word)
            return _describe(name, networks[name], words[1:2])
        return "\n".join(
            _describe(name, commands, [word])
            for name, commands in networks.items()
            if word in {one.name for one in commands}
        )

    # --- doing it ---

    async def _run(self, name: InstanceId, command: NetworkCommand, order: Order) -> str:
        lane = order.call.item.lane
        limit = lane.consumer.deadline
        until = lane.since + limit - min(_SPARE_SECONDS, limit / 2)
        run: Callable[[], Awaitable[str]] | None = None
        try:
            async with asyncio.timeout(until - monotonic()):
                run = await self._prepare(name, command, order)
                return await run()
        except TimeoutError as error:
            if run is None:
                raise TemporaryFailure(
                    f"{name} was not ready in time: it was not asked"
                ) from error
            # What it has written, it has.
            raise DeliveryUncertain(f"{name} did not answer in time") from error

    async def _prepare(
        self, name: InstanceId, command: NetworkCommand, order: Order
    ) -> Callable[[], Awaitable[str]]:
        """Do what must come before the network is asked; return what asks it."""
        if not command.is_whole(order.text):
            alone = " alone" * (command.usage == command.name)
            raise PermanentFailure(f"say {order.as_typed(command.usage)}{alone}")
        instance = self._plumbing.find_instance(name)
        if not instance.is_open or instance.relay is None:
            raise TemporaryFailure(f"{name} is starting", retry_after=0.5)
        if command is JOIN:
            return partial(self._join, instance, order)
        if command is QUERY:
            return partial(
                self.direct_chats.query, instance, order.call.sender, order.text, order.room
            )
        chat: RemoteChat | None = None
        if command.where is Where.ROOM:
            door, session = self._door(instance, order), instance.find_session(order.sender)
            door.acts.check(order.sender)
            chat = door.chat
            if command.needs_power and (order.words or not command.looks_alone):
                await instance.try_now()
        else:
            session = await self._session(instance, order)
            doors = self._doors(instance, order)
            chat = doors[0].chat if len(doors) == 1 else None
        if session is not None and command.wakes:
            await session.wake()
        call = _Call(
            sender=order.call.sender, text=order.text, chat=chat, relay=instance.relay.client,
            own=None if session is None else session.client,
            own_trouble="" if session is None else session.supervisor.trouble,
        )  # fmt: skip
        return partial(self._ask, command, call)

    async def _ask(self, command: NetworkCommand, call: NetworkCall) -> str:
        try:
            return await command.run(call)
        except ModuleError as error:
            raise PermanentFailure(str(error)) from error

    def _door(self, instance: Instance, order: Order) -> Doorway:
        found = self._doors(instance, order)
        if not found:
            raise PermanentFailure(f"this room is not bridged to {instance.name}")
        if len(found) > 1:
            names = ", ".join(door.chat.name for door in found)
            raise PermanentFailure(
                f"this room is bridged to several chats there ({names}); end all but one of them: "
                f"{order.as_typed(f'unbridge {instance.name} {found[-1].chat.name}')}"
            )
        return found[0]

    def _doors(self, instance: Instance, order: Order) -> Sequence[Doorway]:
        """The bridges of the room where it was said to chats that all logins share."""
        return [
            door for door in self._portals.in_room(order.room)
            if door.portal.instance == instance.name and door.portal.receiver is None
        ]  # fmt: skip

    async def _session(self, instance: Instance, order: Order) -> Session:
        rules = self._rules(instance.name)
        return await own_login(instance, order.call.sender, order.room, rules, self._announcer)

    async def _join(self, instance: Instance, order: Order) -> str:
        if len(order.words) not in {1, 2}:
            raise PermanentFailure(f"say {order.as_typed(JOIN.usage)}")
        await instance.try_now()
        chat, *said = order.words
        key = Secret(said[0]) if said else None
        door, is_new = await self._plumbing.open_room(instance, chat, key=key)
        room, name = door.portal.room, door.portal.chat_name
        content = await self._intents.state(room, "m.room.member", order.sender) or {}
        membership = content.get("membership")
        if membership == "join":
            return f"You are in the room of {name} already: {room}"
        if membership == "invite":
            return f"You are invited to the room of {name} already."
        if membership == "ban":
            raise PermanentFailure(f"you are banned from the room of {name}")
        door.acts.check(order.sender)
        # Into a room that is not open, only those who are in it invite.
        admission = await read_admission(self._intents, room)
        # Whoever said the key by which we came in may be in the room, though the key closes it.
        if admission is not Admission.PUBLIC and not (is_new and key is not None):
            way = WAYS[admission].format(room=room)
            raise PermanentFailure(f"the room of {name} is not open to everybody: {way}")
        try:
            await self._intents.invite(room, self._bot, order.sender)
        except MatrixError as error:  # The bot may not, and need not.
            heed_token(error)
            return f"The room of {name} is open to everybody: join {room}."
        return f"You are invited to the room of {name}."


def first_word(text: str) -> tuple[str, str]:
    """The first word, and what follows it with its line breaks."""
    first, *rest = text.split(maxsplit=1) or [""]
    return first, "".join(rest)


def _saying(name: InstanceId, text: str) -> Action:
    async def say(order: Order) -> str:
        return text

    return Action(
        name=f"{name} help", usage=f"{name} help [command]", help="list its commands",
        level=Permission.USER, run=say, of_network=True, network=name,
    )  # fmt: skip


def _describe(name: InstanceId, commands: Sequence[NetworkCommand], only: Sequence[str]) -> str:
    """What a network takes, each with what it does; or one command alone."""
    words = [one.casefold() for one in only]
    found = [one for one in commands if not words or one.name in words]
    if not found:
        raise _no_such(name, commands, words[0])
    about = {
        Where.PERSON: "about yourself, anywhere",
        Where.ROOM: "about the channel, in its room",
    }
    lines = []
    for where, text in about.items():
        those = [one for one in found if one.where is where]
        lines += [f"On {name}, {text}:"] if those else []
        lines += [action.describe() for action in actions_of(name, those)]
    return "\n".join(lines)


def _no_such(name: InstanceId, commands: Sequence[NetworkCommand], word: str) -> PermanentFailure:
    hint = did_you_mean(word, [one.name for one in commands])
    return PermanentFailure(
        f"{name} takes no such command.{hint} Say {as_typed(f'{name} help')} for a list"
    )
