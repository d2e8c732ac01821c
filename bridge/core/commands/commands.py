"""The main bot: what people say to ``!trestle``, in rooms and in direct chats."""

from collections.abc import Awaitable, Callable, Sequence

from bridge.core.commands.confidences import Confidences, tokens_in
from bridge.core.commands.loginchat import LoginChat
from bridge.core.commands.networkcommands import NetworkCommands, first_word
from bridge.core.commands.owndata import OwnData
from bridge.core.commands.parkedcommand import ParkedCommand
from bridge.core.commands.policycommand import PolicyCommand
from bridge.core.commands.privateanswers import Unsaid, refusal, show_privately
from bridge.core.commands.sessions import Sessions
from bridge.core.consent.consents import Consents, in_words
from bridge.core.consent.policies import Policies
from bridge.core.host.actions import Action, Order, did_you_mean
from bridge.core.host.bareorders import BareOrders
from bridge.core.host.bots import BotCall, Stage
from bridge.core.lanes.router import Router
from bridge.core.logins.doublepuppets import DoublePuppets, read_token
from bridge.core.oversight.status import Status
from bridge.core.oversight.statusroom import StatusRoom
from bridge.core.oversight.tracer import Tracer
from bridge.core.permissions.optouts import EVERYWHERE, OptOuts
from bridge.core.portals.choices import describe, read_typed
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.model import ItemId, Permission
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, InstanceId, UserId
from bridge.sdk.secret import Secret

TAKEN_BACK = " Your message is taken back, but the homeserver may keep the original for some days."
_OVERHEARD = "others could read that; say it in a direct chat with me"

OfLogins = Callable[[LoginChat, BotCall, Sequence[str]], Awaitable[str]]


class MainBot:
    """Declares and runs the main bot's actions."""

    def __init__(
        self,
        plumbing: Plumbing,
        portals: Portals,
        router: Router,
        stage: Stage,
        *,
        bot: UserId,
        bots: Callable[[], Sequence[tuple[str, str, UserId]]],
        homeserver_state: Callable[[], str],
        optouts: OptOuts,
        double_puppets: DoublePuppets,
    ) -> None:
        self._plumbing = plumbing
        self._portals = portals
        self._router = router
        self._stage = stage
        self._bot = bot
        self._bots = bots
        self._homeserver_state = homeserver_state
        self._optouts = optouts
        self._double_puppets = double_puppets
        self._unsaid: Recent[ItemId, str] = Recent(1000)
        """What commands came to and is still to be said, by what asked: none is done twice."""
        self.parked: ParkedCommand
        self.bare_orders: BareOrders
        self.confidences: Confidences
        self.consents: Consents
        self.login_chat: LoginChat
        self.network_commands: NetworkCommands
        self.own_data: OwnData
        self.policies: Policies
        self.sessions: Sessions
        self.tracer: Tracer
        self.status: Status
        self.status_room: StatusRoom
        self.actions = {
            one.name: one
            for one in (*self._of_rooms(), *self._of_people(), *self._login_actions())
        }

    def _of_rooms(self) -> Sequence[Action]:
        """What is done about this program and the bridges of rooms."""
        user, relay = Permission.USER, Permission.RELAY
        return (
            Action(name="help", usage="help [network [command]]", level=relay, run=self._help,
                   help="say what I can do, or what a network takes"),
            Action(name="ping", usage="ping", level=user, run=self._ping,
                   help="see that I am there"),
            Action(name="modules", usage="modules", level=user, run=self._modules,
                   help="list the networks and bots here"),
            Action(name="status", usage="status", level=user, run=self._status,
                   help="say how this room's bridges are"),
            Action(name="bridge", usage="bridge <network> <chat> [key]", level=user,
                   run=self._bridge,
                   needs_power=True, of_network=True, of_room=True,
                   help="bridge this room: bridge libera #channel"),
            Action(name="unbridge", usage="unbridge [network]", level=user, run=self._unbridge,
                   needs_power=True, of_network=True, of_room=True,
                   help="end the bridge of this room and tidy up"),
            Action(name="pause", usage="pause [network]", level=user, run=self._pause,
                   needs_power=True, of_network=True, of_room=True,
                   help="let nothing cross for now"),
            Action(name="resume", usage="resume [network]", level=user, run=self._resume,
                   needs_power=True, of_network=True, of_room=True,
                   help="let messages cross again"),
            Action(name="parked", level=user,
                   usage="parked [retry <name>|retry all [reason]|retry rest|drop <name>|"
                   "drop all [reason] [number]]",
                   run=lambda order: self.parked.obey(order.room, order.sender, order.words),
                   needs_power=True, of_network=True,
                   words=frozenset({"retry", "drop", "all", "rest"}),
                   help="see what of this room was put aside, try it again or let it go"),
            Action(name="set", usage="set [network] [key value]", level=user, run=self._set,
                   needs_power=True, of_network=True, of_room=True,
                   help="see or change how this room's bridge behaves"),
            Action(name="policy", level=user,
                   usage="policy [network] [list|apply list [yes]|off list]",
                   words=frozenset({"apply", "off", "yes"}), run=self._policy,
                   needs_power=True, of_network=True, of_room=True,
                   help="see what a policy list would do, have it in force, or end that"),
        )  # fmt: skip

    def _of_people(self) -> Sequence[Action]:
        """What somebody says about themselves, or as one who is in charge."""
        user, relay = Permission.USER, Permission.RELAY
        return (
            Action(name="optout", usage="optout [everywhere]", level=Permission.NONE,
                   run=self._optout, words=frozenset({"everywhere"}), of_room=True,
                   help="do not bridge what I say here, or anywhere"),
            Action(name="optin", usage="optin [everywhere]", level=relay, run=self._optin,
                   words=frozenset({"everywhere"}), of_room=True, help="bridge what I say again"),
            Action(name="double-puppet", usage="double-puppet [on|off|token <token>]", level=user,
                   words=frozenset({"on", "off", "token"}), run=self._double_puppet,
                   help="have my own account say here what I write on a network"),
            Action(name="ack", usage="ack", level=Permission.ADMIN, run=self._ack,
                   help="in the status room: I have seen what is wrong"),
            Action(name="where", usage="where", level=user, run=self._where, of_room=True,
                   help="say it as a reply to your message: what became of that"),
        )  # fmt: skip

    def _login_actions(self) -> Sequence[Action]:
        """What people do with accounts of their own; nobody else is in on it."""

        def action(
            name: str, usage: str, text: str, run: OfLogins, level: Permission = Permission.USER
        ) -> Action:
            return Action(
                name=name, usage=usage, help=text, level=level,
                run=lambda order: run(self.login_chat, order.call, order.words),
            )  # fmt: skip

        # What somebody has can be seen and ended even after the leave to have it was taken.
        relay = Permission.RELAY
        return (
            action("login", "login [network [way]]", "link an account of yours", LoginChat.login),
            action("logout", "logout [network|number]", "end a login, on its network too",
                   LoginChat.logout, relay),
            action("logins", "logins", "list your logins and how they are", LoginChat.logins,
                   relay),
            action("prefer", "prefer <number>",
                   "choose which of your logins on a network speaks", LoginChat.prefer),
            action("manager", "manager", "get a link to a page with all that is yours here",
                   LoginChat.manager),
            Action(name="sessions", usage="sessions [end <name>|end all]", level=relay,
                   words=frozenset({"end", "all"}),
                   run=lambda order: self.sessions.obey(order.call, order.words),
                   help="see where you are signed in at the web, and end that"),
            Action(name="data", usage="data", level=relay,
                   run=lambda order: self.own_data.show(order.call),
                   help="see what is kept about you, and have a copy of all of it"),
            Action(name="forget", usage="forget me", level=relay,
                   run=lambda order: self.own_data.forget(order.call, order.words),
                   help="have what is kept about you erased, and your logins ended"),
        )  # fmt: skip

    def hears(self, person: UserId, text: str) -> bool:
        """Whether what somebody says to the bot is answered: of those whom the settings let do
        nothing, only whether they want a part in it, which is noted once."""
        word, _ = first_word(text)
        return word.casefold() in {"optout", "optin"} or self._may_be_heard(person)

    def _may_be_heard(self, person: UserId) -> bool:
        return self._stage.permissions.highest(person) >= Permission.RELAY

    async def obey(self, call: BotCall, text: str) -> None:
        """Run the command in ``text`` and say how it went.

        What may be a secret is taken back before it is judged. Raises ``TemporaryFailure`` while
        that cannot be, or the answer cannot be stored; what was done is not done again then.
        """
        note = TAKEN_BACK if await self.confidences.take_back(call, text) else ""
        answer = self._unsaid.get(call.item.id)
        try:
            if answer is None:
                answer = await self._run(call, text)
                answer += note if note not in answer else ""
                self._unsaid.put(call.item.id, answer)
        except Unsaid:
            raise
        except DeliveryError as error:
            answer = f"{refusal(error)}{note}"
            if not isinstance(error, TemporaryFailure):
                self._unsaid.put(call.item.id, answer)  # Part of it may have been done.
        if answer:
            self.bare_orders.note(call.room, answer)
            await call.reply(answer)
        self._unsaid.drop(call.item.id)

    async def _run(self, call: BotCall, text: str) -> str:
        found = self._find(call, text)
        if found is None:
            return self._unknown(call, text)
        action, order = found
        try:
            await self._allow(action, order)
            if action.is_private and not call.direct:
                raise PermanentFailure(_OVERHEARD)
            return await action.run(order)
        except MatrixError as error:
            raise TemporaryFailure("the homeserver does not answer as it should") from error

    def _find(self, call: BotCall, text: str) -> tuple[Action, Order] | None:
        word, rest = first_word(text)
        action = self.actions.get(word.casefold() or "help")
        if action is None:
            return self.network_commands.find(call, text)
        return action, Order.read(call, rest, action.words)

    def _unknown(self, call: BotCall, text: str) -> str:
        name = first_word(text)[0].casefold()
        hint = self._hint(call.sender.user_id, name)
        # What is said in a direct chat may have been meant as an answer, and be a secret.
        what = "that" if call.direct else repr(name[:40])
        help_is = as_typed("help", direct=call.direct)
        return f"I do not know {what}.{hint} Say {help_is} for a list."

    def _hint(self, person: UserId, word: str) -> str:
        # Not "help", which is named anyway: "hello" is like it.
        return did_you_mean(word, {*self.actions, *self.network_commands.names(person)} - {"help"})

    async def _allow(self, action: Action, order: Order) -> None:
        allows, sender = self._stage.permissions.allows, order.sender
        meant = self._networks_meant(order, action) if action.of_network else ()
        if not self._has_level(sender, action) or not all(
            allows(sender, action.level, instance) for instance in meant
        ):
            raise PermanentFailure("the settings of this bridge do not let you do that")
        if action.needs_power and (order.words or not action.looks_alone):
            await self._need_power(order)

    def _has_level(self, sender: UserId, action: Action) -> bool:
        permissions = self._stage.permissions
        if action.level is Permission.ADMIN:
            return permissions.allows(sender, action.level)
        return permissions.highest(sender) >= action.level

    def _networks_meant(self, order: Order, action: Action) -> Sequence[InstanceId]:
        """The networks whose own levels count, if there are any."""
        if action.network is not None:
            return [action.network]
        if action.name == "bridge":
            here = list(self._plumbing.instances)
            return [name for name in here if name in order.network]
        here = [door.portal.instance for door in self._portals.in_room(order.room)]
        return [name for name in here if name in order.network] or here

    async def _need_power(self, order: Order) -> None:
        # What counts is the power that the sender had when it was said.
        said_at = EventId(order.call.item.event["event_id"])
        if not await self._portals.has_power(order.sender, order.room, said_at):
            raise PermanentFailure(
                "you need the power to change this room's settings (usually a moderator's)"
            )

    # --- the actions ---

    async def _help(self, order: Order) -> str:
        if order.words:
            return self._help_about(order)
        lines = ["I bridge rooms to other networks and host bots. You can say:"]
        lines += [
            action.describe(direct=order.call.direct)
            for action in self.actions.values()
            if self._has_level(order.sender, action)
        ]
        return "\n".join([*lines, *self.network_commands.summary(order)])

    def _help_about(self, order: Order) -> str:
        """What one word stands for: an action of the bot, else a network or its command."""
        word = order.words[0].casefold()
        if word in self.actions:
            ways = self.login_chat.ways(order.sender) if word == "login" else ""
            return f"{self.actions[word].describe(direct=order.call.direct)}\n{ways}".rstrip()
        found = self.network_commands.describe(order.sender, order.words)
        if not found:
            raise PermanentFailure(
                f"there is no command and no network called {word[:40]!r} here that you use."
                f"{self._hint(order.sender, word)} Say {order.as_typed('help')} for a list"
            )
        return found

    async def _ping(self, order: Order) -> str:
        return "I am here."

    async def _modules(self, order: Order) -> str:
        lines = []
        for name, instance in sorted(self._plumbing.instances.items()):
            info = instance.connector.info
            state, why = instance.state
            lines.append(f"{name}: {info.name}, {state.value}{f' ({why})' if why else ''}")
        lines += [f"{name}: {title}; invite {user}" for name, title, user in self._bots()]
        return "\n".join(lines) or "Nothing is switched on in the settings."

    async def _status(self, order: Order) -> str:
        doors = self._portals.in_room(order.room)
        is_admin = self._stage.permissions.allows(order.sender, Permission.ADMIN)
        if is_admin and not doors:
            # It names people and hidden chats, whoever else is here.
            text = await self.status.in_words()
            return await show_privately(self._stage, self._bot, order.call, text)
        lines = [f"Homeserver: {self._homeserver_state()}."]
        for door in doors:
            portal = door.portal
            lane = self._router.lanes.get(door.name)
            waiting = len(lane) if lane else 0
            instance = self._plumbing.instances.get(portal.instance)
            state, why = instance.state if instance else ("not switched on", "")
            trouble = instance.trouble.get(portal.chat, "") if instance else ""
            why = f" ({why.rstrip('.')})" if why else ""
            parts = [f"{portal.chat_name} on {portal.instance}: {state}{why}"]
            parts += ["paused"] if portal.paused else []
            parts += ["held back: not all here are seen there"] if portal.blocked else []
            parts += [f"{waiting} waiting"] if waiting else []
            parts += [trouble] if trouble else []
            lines.append(", ".join(parts) + ".")
        if not doors:
            lines.append("This room is not bridged.")
        if is_admin:
            waiting = self._router.waiting + self._router.beyond
            lines.append(f"In all: {len(self._portals.all)} bridged rooms, {waiting} waiting.")
        return "\n".join(lines)

    async def _bridge(self, order: Order) -> str:
        if len(order.words) not in {2, 3}:
            raise PermanentFailure(
                "say bridge, the network and the chat: "
                f"{order.as_typed('bridge libera #channel')}; after them its key, if it has one"
            )
        instance = self._plumbing.find_instance(order.network[0])
        chat, *said = order.words[1:]
        key = Secret(said[0]) if said else None
        found = await self.consents.bridge(instance, chat, order.room, order.sender, key)
        return in_words(found)

    async def _unbridge(self, order: Order) -> str:
        door = self._only_door(order)
        await self._plumbing.unbridge(door, order.sender)
        return f"{door.portal.chat_name} on {door.portal.instance} is no longer bridged here."

    async def _pause(self, order: Order) -> str:
        door = self._only_door(order)
        await self._portals.set_paused(door, True, order.sender)
        resume = order.as_typed("resume")
        return f"Nothing crosses to or from {door.portal.chat_name} until you say {resume}."

    async def _resume(self, order: Order) -> str:
        door = self._only_door(order)
        await self._portals.set_paused(door, False, order.sender)
        done = f"Messages cross to and from {door.portal.chat_name} again."
        try:
            await self._plumbing.come_back(door)
        except DeliveryError as error:
            return f"{done} But I am not there yet: {str(error).rstrip('.')}."
        return done

    async def _set(self, order: Order) -> str:
        door, words = self._door_and_words(order)
        wish = self._plumbing.wish(door, order.sender)
        if not words:
            return describe(wish)
        key, value = read_typed(words)
        await self._portals.choose(door, wish, {key: value})
        return f"{key} is {value} for {door.portal.chat_name} on {door.portal.instance} now."

    async def _policy(self, order: Order) -> str:
        door, words = self._door_and_words(order)
        command = PolicyCommand(self.policies, self._stage.intents)
        return await command.obey(door, order.sender, words)

    def _door_and_words(self, order: Order) -> tuple[Doorway, Sequence[str]]:
        """The bridge that is meant, by its network's name before all else, and by its chat's where
        the room has several of that network; what else was said."""
        words, said = order.words, 0
        here = self._portals.in_room(order.room)
        if doors := [door for door in here if door.portal.instance in order.network]:
            is_chat = len(doors) > 1 and any(_is_called(door, *words[1:2]) for door in doors)
            said = 2 if is_chat else 1
        names = (*order.network, *words[1:said]) if said else ()
        return self._only_door(order, names), words[said:]

    async def _optout(self, order: Order) -> str:
        doors = self._doors_meant(order)
        for portal in [EVERYWHERE] if order.words else [door.portal.id for door in doors]:
            await self._optouts.add(order.sender, portal)
        for door in doors:
            await door.let_go(order.sender)
        # Networks are switched on and off, and rooms untied, meanwhile.
        for instance in [*self._plumbing.instances.values()] if order.words else ():
            await instance.end_automatic(order.sender)
        done = f"Nothing that you say is bridged {'anywhere' if order.words else 'here'} any more."
        if not self._may_be_heard(order.sender):
            return done
        undo = order.as_typed("optin everywhere" if order.words else "optin")
        return f"{done} Say {undo} to undo that."

    async def _optin(self, order: Order) -> str:
        doors = self._doors_meant(order)
        for portal in [EVERYWHERE] if order.words else [door.portal.id for door in doors]:
            await self._optouts.remove(order.sender, portal)
        left = [door for door in doors if self._optouts.cover(order.sender, door.portal.id)]
        if left:
            everywhere = order.as_typed("optin everywhere")
            raise PermanentFailure(f"you opted out everywhere; say {everywhere}")
        return "What you say is bridged again."

    async def _double_puppet(self, order: Order) -> str:
        person, doubles = order.sender, self._double_puppets
        if tokens_in(order.call.text) and not order.call.direct:
            raise PermanentFailure(
                "others could read that: end the session that the token belongs to, and give me "
                "a new one in a direct chat"
            )
        match order.words:
            case ():
                return doubles.describe(person)
            case ("on",):
                await doubles.switch_on(person)
                return doubles.describe(person)
            case ("off",):
                await doubles.switch_off(person)
                return f"{doubles.describe(person)} If I had a token of yours, it is forgotten."
            case ("token", *rest):
                await doubles.take_token(person, read_token(rest))
                return f"{doubles.describe(person)}{TAKEN_BACK}"
        raise PermanentFailure(
            f"say {order.as_typed('double-puppet')} alone, or with on, off, or token and a token"
        )

    def _doors_meant(self, order: Order) -> Sequence[Doorway]:
        if order.words == ("everywhere",):
            return self._portals.all
        doors = list(self._portals.in_room(order.room))
        if order.words or not doors:
            raise PermanentFailure("say it in a bridged room, or with the word everywhere")
        return doors

    async def _ack(self, order: Order) -> str:
        if not await self.status_room.is_here(order.room):
            raise PermanentFailure("that is said in the status room")
        number = await self.status_room.acknowledge(order.sender)
        return f"Noted on {number}." if number else "All is well."

    async def _where(self, order: Order) -> str:
        target = order.call.reply_to
        if target is None:
            raise PermanentFailure("say it as a reply to the message that you want to find")
        trace = await self.tracer.trace(target)
        if trace.room != order.room:
            raise PermanentFailure("that message is of another room")
        if trace.sender != order.sender:
            await self._need_power(order)
        return "\n".join(map(str, trace.steps))

    def _only_door(self, order: Order, names: Sequence[str] | None = None) -> Doorway:
        names = (*order.network, *order.words[1:2]) if names is None else names
        here = doors = list(self._portals.in_room(order.room))
        if names:
            meant = [door for door in doors if door.portal.instance == names[0]]
            doors = [door for door in meant if _is_called(door, *names[1:2])]
        if len(doors) == 1:
            return doors[0]
        networks = [door.portal.instance for door in doors]
        ways = ", ".join(
            name if networks.count(name := door.portal.instance) == 1
            else f"{name} {door.portal.chat_name}" for door in doors or here
        )  # fmt: skip
        if doors:
            raise PermanentFailure(f"this room has several bridges; name one: {ways}")
        raise PermanentFailure("this room is not bridged" + f" there, but to: {ways}" * bool(here))


def _is_called(door: Doorway, name: str = "") -> bool:
    """Whether a bridge's chat goes by that name; without one, any does."""
    names = {door.portal.chat.casefold(), door.portal.chat_name.casefold()}
    return not name or name.casefold() in names
