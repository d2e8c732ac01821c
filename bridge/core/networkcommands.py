"""Commands of networks: found by their words, allowed by the same table as all others, run."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bridge.core.actions import PREFIX, Action, Order
from bridge.core.admission import WAYS, Admission, read_admission
from bridge.core.announcing import Announcer
from bridge.core.bots import BotCall
from bridge.core.directchats import DirectChats
from bridge.core.doorway import Doorway
from bridge.core.instances import Instance, Session
from bridge.core.ownlogins import own_login
from bridge.core.plumbing import Plumbing
from bridge.core.portals import Portals
from bridge.matrix.client import MatrixError
from bridge.matrix.intents import Intents
from bridge.model import InstanceRules, Permission
from bridge.sdk.commands import NetworkCall, NetworkCommand, TakesCommands, Where
from bridge.sdk.errors import ModuleError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, Sender
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.module import Client, FindsChats, HasDirectChats

COMMAND_SECONDS = 45.0
"""How long a network may take for one command."""
_LONGEST_NAME, _ALIKE = 40, 0.8
"""Of a word that is compared with the names of commands; from where on it is taken for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A command as a module gets it (``sdk.NetworkCall``)."""

    sender: Sender
    text: str
    chat: RemoteChat | None
    own: Client | None
    relay: Client


async def _not_run(call: NetworkCall) -> str:
    raise PermanentFailure("that is done by the bridge, not by its network")


JOIN = NetworkCommand(
    name="join", usage="join <chat>", where=Where.PERSON, run=_not_run,
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
    own = tuple(connector.commands) if isinstance(connector, TakesCommands) else ()
    own = (*own, JOIN) if isinstance(connector, FindsChats) else own
    return (*own, QUERY) if isinstance(connector, HasDirectChats) else own


Run = Callable[[InstanceId, NetworkCommand, Order], Awaitable[str]]


async def _nothing(name: InstanceId, command: NetworkCommand, order: Order) -> str:
    raise PermanentFailure("nothing is done here")


def actions_of(
    name: InstanceId, commands: Iterable[NetworkCommand], run: Run = _nothing
) -> Sequence[Action]:
    """The commands of a network as actions of the bot. Without ``run`` they can be read alone."""

    def action(one: NetworkCommand) -> Action:
        async def do(order: Order) -> str:
            return await run(name, one, order)

        return Action(
            name=f"{name} {one.name}", usage=f"{name} {one.usage}", help=one.help,
            level=Permission.USER, run=do, needs_power=one.needs_power, of_network=True,
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

        ``libera whois carl``, or without the network where only one can be meant: the room's
        first. Raises ``PermanentFailure`` if that is not clear.
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
            ways = " or ".join(f"{name} {word}" for name in knowing)
            raise PermanentFailure(f"say which network is meant: {ways}")
        if not knowing:
            return None
        return self._named(call, knowing[0], networks[knowing[0]], word, rest)

    def is_secret(self, text: str) -> bool:
        """Whether it may be a command that takes a secret, whoever gives it and with a slip of
        the pen."""
        # The first word may be the network's name; nothing is secret that ends with the command.
        words = [word.casefold()[:_LONGEST_NAME] for word in text.split(maxsplit=2)][:-1]
        known = {
            one.name: one.is_private
            for instance in self._plumbing.instances.values()
            for one in declared(instance.connector)
        }
        near = [
            name
            for word in words
            for name in difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)
        ]
        return any(known[name] for name in near)

    def _named(
        self, call: BotCall, name: InstanceId, commands: Sequence[NetworkCommand], word: str,
        rest: str,
    ) -> tuple[Action, Order]:  # fmt: skip
        order = Order(call, tuple(rest.split()), rest.strip())
        actions = {
            action.name.partition(" ")[2]: action
            for action in actions_of(name, commands, self._run)
        }
        if word == "help":
            text = self.describe(call.sender.user_id, name, order.words[:1])
            return _saying(name, text), order
        if word not in actions:
            near = difflib.get_close_matches(word, actions, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise PermanentFailure(
                f"{name} takes no such command.{hint} Say {PREFIX} {name} help for a list"
            )
        return actions[word], order

    # --- help ---

    def summary(self, person: UserId) -> Sequence[str]:
        """A line for each network: which commands it takes."""
        return [
            f"{name} takes: {', '.join(one.name for one in commands)}. Say {PREFIX} {name} help."
            for name, commands in self.networks(person).items()
        ]

    def describe(self, person: UserId, name: str, only: Sequence[str] = ()) -> str:
        """The commands of one network, each with what it does. Raises ``PermanentFailure``."""
        networks = self.networks(person)
        if name not in networks:
            raise PermanentFailure(f"there is no network called {name[:40]!r} here that you use")
        found = [one for one in networks[InstanceId(name)] if not only or one.name in only]
        if not found:
            raise PermanentFailure(f"{name} takes no such command")
        about = {
            Where.PERSON: "about yourself, anywhere",
            Where.ROOM: "about the channel, in its room",
        }
        lines = []
        for where, words in about.items():
            lines += [f"On {name}, {words}:"] if any(one.where is where for one in found) else []
            lines += [
                f"{PREFIX} {name} {one.usage} — {one.help}{_conditions(one)}"
                for one in found
                if one.where is where
            ]
        return "\n".join(lines)

    # --- doing it ---

    async def _run(self, name: InstanceId, command: NetworkCommand, order: Order) -> str:
        instance = self._plumbing.find_instance(name)
        if not instance.is_open or instance.relay is None:
            raise TemporaryFailure(f"{name} is starting", retry_after=0.5)
        if command is JOIN:
            return await self._join(instance, order)
        if command is QUERY:
            return await self.direct_chats.query(
                instance, order.call.sender, order.text, order.room
            )
        chat: RemoteChat | None = None
        if command.where is Where.ROOM:
            door, session = self._door(instance, order), instance.find_session(order.sender)
            door.acts.check(order.sender)
            chat = door.chat
            if command.needs_power:
                await instance.try_now()
        else:
            session = await self._session(instance, order)
        if session is not None:
            await session.wake()
        call = _Call(
            sender=order.call.sender, text=order.text, chat=chat, relay=instance.relay.client,
            own=None if session is None else session.client,
        )  # fmt: skip
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                return await command.run(call)
        except TimeoutError as error:
            raise TemporaryFailure(f"{name} did not answer in {COMMAND_SECONDS:g} s") from error
        except ModuleError as error:
            raise PermanentFailure(str(error)) from error

    def _door(self, instance: Instance, order: Order) -> Doorway:
        doors = self._portals.in_room(order.room)
        found = [
            door for door in doors
            if door.portal.instance == instance.name and door.portal.receiver is None
        ]  # fmt: skip
        if not found:
            raise PermanentFailure(f"this room is not bridged to {instance.name}")
        if len(found) > 1:
            names = ", ".join(door.chat.name for door in found)
            raise PermanentFailure(
                f"this room is bridged to several chats there ({names}); end all but one of them: "
                f"{PREFIX} unbridge {instance.name} {found[-1].chat.name}"
            )
        return found[0]

    async def _session(self, instance: Instance, order: Order) -> Session:
        rules = self._rules(instance.name)
        return await own_login(instance, order.call.sender, order.room, rules, self._announcer)

    async def _join(self, instance: Instance, order: Order) -> str:
        if not order.text:
            raise PermanentFailure(f"say {JOIN.usage}")
        await instance.try_now()
        door = await self._plumbing.open_room(instance, order.text)
        room, name = door.portal.room, door.portal.chat_name
        membership = await self._membership(room, order.sender)
        if membership == "join":
            return f"You are in the room of {name} already: {room}"
        if membership == "invite":
            return f"You are invited to the room of {name} already."
        door.acts.check(order.sender)
        # Only they invite into other rooms who are in them.
        admission = await read_admission(self._intents, room)
        if admission is not Admission.PUBLIC:
            way = WAYS[admission].format(room=room)
            raise PermanentFailure(f"the room of {name} is not open to everybody: {way}")
        try:
            await self._intents.invite(room, self._bot, order.sender)
        except MatrixError:  # The bot may not, and need not.
            return f"The room of {name} is open to everybody: join {room}."
        return f"You are invited to the room of {name}."

    async def _membership(self, room: RoomId, user: UserId) -> str:
        try:
            content = await self._intents.state(room, "m.room.member", user) or {}
        except MatrixError as error:
            raise TemporaryFailure(str(error)) from error
        return str(content.get("membership"))


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


def _conditions(command: NetworkCommand) -> str:
    found = ["needs power in the room"] if command.needs_power else []
    found += ["in a direct chat with me alone"] if command.is_private else []
    return f" ({', '.join(found)})" if found else ""
