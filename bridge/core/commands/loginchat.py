"""Logins by chat: the commands, and the conversation in which a person signs in.

Secrets have a page of their own. Where no web address is configured, they are typed into the
direct chat and removed at once; no room with others in it ever sees a question for one.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bridge.core.commands.privateanswers import answer_privately, show_privately
from bridge.core.host.actions import WORDS, is_order
from bridge.core.host.bots import BotCall, Stage, say
from bridge.core.host.instances import Instance, Session
from bridge.core.logins.logins import IDLE_SECONDS, Logins, describe_ways
from bridge.core.logins.signin import SignIn, sentence
from bridge.core.outbox.outgoing import transaction_id
from bridge.matrix.cache import Recent
from bridge.matrix.htmltree import clean
from bridge.model import Outgoing, SendKind
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.sdk.login import Ask, Field, LoginFlow, Show
from bridge.storage.portals import BotRooms

MakeLink = Callable[[UserId, str], Awaitable[str | None]]

_STOP = "cancel"
_MOST_CHOOSING = 200
_REMOVED = (
    "I have removed what you typed. Your homeserver may keep the original for some days before it "
    "forgets it for good."
)
_NOT_PRIVATE = (
    "I have stopped your sign-in: its next step is a secret, and the chat in which you began it "
    "is not private any more (somebody else is there or invited, it is encrypted, or I may not "
    f"remove what you type). Say {as_typed('login')} again."
)


@dataclass(slots=True)
class Talk:
    """A sign-in by chat: which fields are still to be asked."""

    sign_in: SignIn
    left: list[Field] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    said: int = 0
    is_checking: bool = False
    """The network looks at the answers."""
    is_guarded: bool = False
    """A secret was asked for: whatever is said may be one, a later correction too."""
    taken: set[str] = field(default_factory=set)
    """The events that were answers: one that is tried again answers nothing more."""


@dataclass(frozen=True, slots=True)
class Choosing:
    """Somebody was asked which way to sign in to a network."""

    instance: Instance
    asked_at: float


class LoginChat:
    """What the main bot says about logins."""

    def __init__(self, logins: Logins, stage: Stage, bot: UserId, told: BotRooms) -> None:
        self._logins = logins
        self._stage = stage
        self._bot = bot
        self._told = told
        self._talks: dict[tuple[UserId, RoomId], Talk] = {}
        self._beginning: dict[tuple[UserId, RoomId], object] = {}
        """Whose sign-in has not come to its first step: a mark of the last one that was begun."""
        self._choosing: Recent[tuple[UserId, RoomId], Choosing] = Recent(_MOST_CHOOSING)
        self._removed: deque[str] = deque(maxlen=1000)
        """What was taken back lately; the homeserver may not know yet."""
        self.make_link: MakeLink = _no_link
        self.is_command: Callable[[BotCall, str], bool] = lambda call, text: False
        """Whether somebody commands a network by a text."""

    # --- commands ---

    async def login(self, call: BotCall, words: Sequence[str]) -> str:
        """Send a link, or begin to ask. Raises a ``DeliveryError``."""
        who = call.sender.user_id
        instance = self._logins.find_network(who, words[0].casefold() if words else "")
        room, answer = await self._private_room(call)
        link = await self.make_link(who, f"login:{instance.name}")
        if link is not None:
            await self._say_link(call, room, link, f"sign in to {instance.name}")
            return answer
        way = words[1].casefold() if len(words) > 1 else ""
        if not way and len(instance.connector.login_flows()) > 1:
            await self._ask_way(call, room, instance)
        else:
            self._begin(who, room, instance, self._logins.find_flow(instance, way))
        return answer

    def ways(self, person: UserId) -> str:
        """The ways to sign in that the person may name, a line for each network with several."""
        return "\n".join(
            f"Ways on {one.name}: {'; '.join(describe_ways(one).splitlines())}."
            for one in self._logins.networks(person)
            if len(one.connector.login_flows()) > 1
        )

    async def manager(self, call: BotCall, words: Sequence[str]) -> str:
        """Send a link to everything that the web has. Raises a ``DeliveryError``."""
        room, answer = await self._private_room(call)
        link = await self.make_link(call.sender.user_id, "manager")
        if link is None:
            raise PermanentFailure(
                "no web address is configured (`web.manager_url`); all that it has, I have too: "
                f"say {as_typed('help', direct=call.direct)}"
            )
        await self._say_link(call, room, link, "see and change what is yours here")
        return answer

    async def logins(self, call: BotCall, words: Sequence[str]) -> str:
        """List the person's logins, where nobody else reads it. Raises a ``DeliveryError``."""
        own = self._logins.of(call.sender.user_id)
        there = Counter(session.row.instance for session in own)
        lines = [
            describe(session)
            + "; it speaks" * (session.row.preferred and there[session.row.instance] > 1)
            for session in own
        ]
        ways = "Say login to link one." * bool(self._logins.networks(call.sender.user_id))
        text = "\n".join(lines) or f"You have linked no account. {ways}".rstrip()
        return await show_privately(self._stage, self._bot, call, text)

    async def logout(self, call: BotCall, words: Sequence[str]) -> str:
        """End a login, on the network too. Raises a ``DeliveryError``."""

        async def end() -> str:
            session = self._logins.get(call.sender.user_id, " ".join(words).casefold())
            remark = await self._logins.log_out(call.sender.user_id, session)
            return f"Logged out of {session.row.instance}. {remark}".strip()

        return await answer_privately(self._stage, self._bot, call, end)

    async def prefer(self, call: BotCall, words: Sequence[str]) -> str:
        """Choose which of several logins speaks. Raises a ``DeliveryError``."""

        async def choose() -> str:
            session = self._logins.get(call.sender.user_id, " ".join(words).casefold())
            await self._logins.prefer(call.sender.user_id, session)
            return f"Login {session.row.id} speaks for you on {session.row.instance} now."

        return await answer_privately(self._stage, self._bot, call, choose)

    # --- the conversation ---

    async def hear(self, call: BotCall, body: str, *, is_text: bool = True) -> bool:
        """Take what is said in a direct chat as an answer, if one is expected.

        While that may be a secret, whatever is said is taken back: also commands, and what is no
        plain message (``is_text``). Raises ``TemporaryFailure`` when the database is away.
        """
        who, room = call.sender.user_id, call.room
        talk = self._find_talk(who, room)
        if talk is not None and str(call.item.event["event_id"]) in talk.taken:
            if talk.left:
                await self._ask(who, room, talk)
            return True
        if talk is None or not (talk.left or talk.is_guarded):
            return (is_text and await self._hear_way(call, body)) or await self._hear_late(call)
        is_command = is_order(body)
        if not talk.is_guarded and (is_command or not is_text):
            return False
        if body.strip().casefold() == _STOP:
            await self._stop(call, talk)
            return True
        if talk.is_guarded:
            await self.remove(call)
        if talk.is_checking:
            await call.reply(
                f"I am still checking what you gave before; wait, or say {_STOP}. {_REMOVED}"
            )
        elif is_command or not is_text:
            await call.reply(
                f"I asked for {talk.left[0].label}: say it as a plain message, or {_STOP}. "
                f"{_REMOVED}"
            )
        else:
            await self._take(call, talk, body)
        return True

    def _find_talk(self, who: UserId, room: RoomId) -> Talk | None:
        """What is talked about there; what was asked and left alone for long is over."""
        talk = self._talks.get((who, room))
        if talk is None or not talk.left:
            return talk
        if asyncio.get_running_loop().time() - talk.sign_in.touched_at <= IDLE_SECONDS:
            return talk
        self._give_up(who, room)
        return None

    async def _ask_way(self, call: BotCall, room: RoomId, instance: Instance) -> None:
        """Ask first which way to sign in, where there are several."""
        who = call.sender.user_id
        self._give_up(who, room)
        text = (
            f"How do you sign in to {instance.name}? Say one of these words, or {_STOP} to give "
            f"up:\n{describe_ways(instance)}"
        )
        now = asyncio.get_running_loop().time()
        self._choosing.put((who, room), Choosing(instance, now))
        await self._say(room, text, call.item.id)

    async def _hear_way(self, call: BotCall, body: str) -> bool:
        """Take what is said as the way to sign in, if that was asked."""
        place = (call.sender.user_id, call.room)
        choosing, word = self._choosing.get(place), body.strip().casefold()
        # A way is one word. What else is said may be a command, and what is in it a secret.
        if choosing is None or len(word.split()) != 1 or is_order(body) or word in WORDS:
            return False
        if asyncio.get_running_loop().time() - choosing.asked_at > IDLE_SECONDS:
            self._choosing.drop(place)
            return False
        if word == _STOP:
            self._choosing.drop(place)
            await call.reply("You are not signed in.")
            return True
        instance = choosing.instance
        flow = next((one for one in instance.connector.login_flows() if one.id == word), None)
        if flow is not None:
            self._choosing.drop(place)
            self._begin(*place, instance, flow)
            return True
        if self.is_command(call, word):
            return False
        if not await self._hear_late(call):
            await call.reply(
                f"That is no way to sign in to {instance.name}. Say one of these words, or "
                f"{_STOP}:\n{describe_ways(instance)}"
            )
        return True

    async def _hear_late(self, call: BotCall) -> bool:
        """Take back an answer to a question that was asked before a restart, or too long ago: it
        may be a secret."""
        who, mark = call.sender.user_id, self._mark(call.room)
        if not await self._told.was_told(who, mark):
            return False
        await self.remove(call)
        await self._told.forget_told(who, mark)
        await call.reply(f"I do not wait for that any more; say login again. {_REMOVED}")
        return True

    async def _stop(self, call: BotCall, talk: Talk) -> None:
        who, room = call.sender.user_id, call.room
        await self._told.forget_told(who, self._mark(room))
        self._talks.pop((who, room), None)
        self._logins.drop(talk.sign_in)
        await call.reply("You are not signed in.")

    async def _take(self, call: BotCall, talk: Talk, body: str) -> None:
        """Take an answer, and ask what comes next."""
        who, room, asked = call.sender.user_id, call.room, talk.left[0]
        if asked.secret:
            await call.reply(_REMOVED)
        given = body if asked.secret else clean(body).strip()
        if given == "-" and not asked.required:
            given = ""
        talk.sign_in.touched_at = asyncio.get_running_loop().time()
        talk.answers[asked.name] = given
        talk.left.pop(0)
        talk.taken.add(str(call.item.event["event_id"]))
        if talk.left:
            await self._ask(who, room, talk)
        else:
            talk.is_checking = True
            self._logins.do(partial(self._submit, who, room, talk))

    async def hear_edit(self, call: BotCall) -> bool:
        """Take back an edit in a direct chat that may hold a secret; False if it holds none.

        An edit outlives the message that it edits: when that was taken back, it stays. Raises
        ``TemporaryFailure`` when the database or the homeserver is away.
        """
        who, room = call.sender.user_id, call.room
        edited = str(call.item.event["content"]["m.relates_to"].get("event_id"))
        talk = self._talks.get((who, room))
        asked = (talk is not None and talk.is_guarded) or (
            await self._told.was_told(who, self._mark(room))
        )
        if not (
            asked
            or edited in self._removed
            or await self._stage.intents.is_taken_back(room, EventId(edited))
        ):
            return False
        await self.remove(call)
        if asked:
            await call.reply(f"I read no edits; say it as a message of its own. {_REMOVED}")
        return True

    def _begin(self, who: UserId, room: RoomId, instance: Instance, flow: LoginFlow) -> None:
        self._logins.do(partial(self._converse, who, room, instance, flow))

    def _give_up(self, who: UserId, room: RoomId) -> None:
        """End what was begun there before."""
        self._beginning.pop((who, room), None)
        self._choosing.drop((who, room))
        old = self._talks.pop((who, room), None)
        if old is not None:
            self._logins.drop(old.sign_in)

    async def _converse(
        self, who: UserId, room: RoomId, instance: Instance, flow: LoginFlow
    ) -> None:
        """Begin, and ask what comes first."""
        self._give_up(who, room)
        mark = self._beginning[who, room] = object()
        try:
            sign_in = await self._logins.begin(who, instance, flow)
        except DeliveryError as error:
            text = f"I could not do that: {sentence(error)}"
            await self._say(room, text, secrets.token_hex(8))
            return
        finally:
            is_last = self._beginning.get((who, room)) is mark
            if is_last:
                del self._beginning[who, room]
        if not is_last:  # Somebody said login again meanwhile.
            self._logins.drop(sign_in)
            return
        talk = self._talks[who, room] = Talk(sign_in)
        with self._ending(who, room, talk):
            await self._show(who, room, talk)

    async def _submit(self, who: UserId, room: RoomId, talk: Talk) -> None:
        answers, talk.answers = talk.answers, {}
        with self._ending(who, room, talk):
            try:
                await talk.sign_in.submit(answers)
            except PermanentFailure as error:
                talk.sign_in.trouble = sentence(error)
            if self._talks.get((who, room)) is talk:
                await self._told.forget_told(who, self._mark(room))
            await self._show(who, room, talk)

    @contextmanager
    def _ending(self, who: UserId, room: RoomId, talk: Talk) -> Iterator[None]:
        """End the talk if it fails, so that it does not keep the chat busy."""
        try:
            yield
        except Exception:
            if self._talks.get((who, room)) is talk:
                del self._talks[who, room]
            self._logins.drop(talk.sign_in)
            raise

    async def _show(self, who: UserId, room: RoomId, talk: Talk) -> None:
        """Say how it stands, until something is asked or it is over."""
        sign_in = talk.sign_in
        while True:
            step, number = sign_in.step, sign_in.number
            if isinstance(step, Ask):
                again = f"{sign_in.trouble} Try again. " if sign_in.trouble else ""
                await self._tell(room, talk, f"{again}{step.text} Say {_STOP} to give up.")
                if sign_in.step is not step:
                    continue  # It was given up meanwhile.
                talk.left, talk.is_checking = list(step.fields), False
                await self._ask(who, room, talk)
                return
            if step is None:
                break
            talk.is_checking = talk.is_guarded = False
            shown = [step.text]
            if isinstance(step, Show):
                shown += [part for part in (step.link, step.code) if part]
            await self._tell(room, talk, "\n".join(shown))
            while sign_in.number == number and not sign_in.is_over:
                await sign_in.wait_until_changed(number, 60)
        is_given_up = self._talks.get((who, room)) is not talk
        if not is_given_up:
            del self._talks[who, room]
        if sign_in.login is not None:
            name, instance = sign_in.login.name, sign_in.login.instance
            await self._tell(
                room,
                talk,
                f"You are signed in to {instance} as {name} (login {sign_in.login.id}).",
            )
        elif sign_in.trouble and not is_given_up:
            await self._tell(room, talk, f"You are not signed in: {sign_in.trouble}")

    async def _ask(self, who: UserId, room: RoomId, talk: Talk) -> None:
        asked = talk.left[0]
        if asked.secret:
            talk.is_guarded = True
            if not await self._stage.private_chats.is_private(self._bot, who, room):
                await self._break_off(who, room, talk)
                return
            await self._told.note_told(who, self._mark(room))
            text = (
                f"{asked.label}? I remove it as soon as I have read it. Your homeserver may keep "
                "the original for some days."
            )
        else:
            text = f"{asked.label}?" + ("" if asked.required else " Say - for none.")
        await self._tell(room, talk, text)

    async def _break_off(self, who: UserId, room: RoomId, talk: Talk) -> None:
        """End a sign-in whose next step is a secret, where others could read that by now."""
        try:
            chat = await self._stage.private_chats.open(self._bot, who)
        except PermanentFailure:
            chat = room
        await self._told.forget_told(who, self._mark(room))
        await self._tell(chat, talk, _NOT_PRIVATE)
        # Last, so that a try that was cut off comes here once more.
        self._talks.pop((who, room), None)
        self._logins.drop(talk.sign_in)

    # --- saying it ---

    async def _private_room(self, call: BotCall) -> tuple[RoomId, str]:
        """Where only that person reads, and what to answer where it was asked."""
        return await self._stage.private_chats.room_for(
            self._bot, call.sender.user_id, call.room, direct=call.direct
        )

    async def remove(self, call: BotCall) -> None:
        """Take back a message that holds a secret, where the bot has the power to.

        Raises ``TemporaryFailure`` when the database is away.
        """
        event_id = str(call.item.event["event_id"])
        self._removed.append(event_id)
        await self._stage.sender.put([
            Outgoing(
                room=call.room, user=self._bot, kind=SendKind.REDACT, target=event_id,
                content={"reason": "a secret"},
                transaction_id=transaction_id(self._stage.key_of, "secret", event_id),
            )
        ])  # fmt: skip

    async def _say_link(self, call: BotCall, room: RoomId, link: str, what: str) -> None:
        """Say each link once: a later one makes that of an earlier try worthless."""
        text = (
            f"Open this link within ten minutes to {what}. It works once and is for you only; "
            f"give it to nobody.\n{link}"
        )
        await self._say(room, text, call.item.id, self._stage.key_of(link).hex())

    async def _tell(self, room: RoomId, talk: Talk, text: str) -> None:
        talk.said += 1
        await self._say(room, text, talk.sign_in.id, talk.said)

    async def _say(self, room: RoomId, text: str, *source: object) -> None:
        await say(self._stage, self._bot, room, text, MessageKind.NOTICE, "login", *source)

    def _mark(self, room: RoomId) -> str:
        """The name of the note that a secret was asked for there."""
        return f"secret asked in {self._stage.key_of(room).hex()}"


async def _no_link(person: UserId, purpose: str) -> str | None:
    return None


def describe(session: Session) -> str:
    """How a login is, in a line for its owner."""
    row, supervisor = session.row, session.supervisor
    why = f": {supervisor.account}" if supervisor.account else ""
    return f"{row.id}: {row.name} on {row.instance}, {supervisor.state.value}{why}"
