"""Where those who run a channel come with their wishes, by private message to the relay."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from bridge.networks.irc.channels.members import Roster
from bridge.networks.irc.channels.rollcall import (
    find_moderators,
    find_person,
    operator_signs,
)
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries, Priority
from bridge.networks.irc.format import clean_text
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.private.guidance import HELP, help_lines
from bridge.networks.irc.wire import LINE_BYTES, Incoming, Line, Source, cut, line, notice
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import (
    ConsentRequest,
    ModeratorWish,
    RemoteChat,
    RemoteUser,
    Wish,
)
from bridge.sdk.ids import RemoteChatId, RemoteUserId
from bridge.sdk.module import Host

WISHES: Mapping[str, Wish] = {
    "yes": Wish.AGREE,
    "no": Wish.REFUSE,
    "status": Wish.STATUS,
    "leave": Wish.LEAVE,
    "block": Wish.BLOCK,
    "unblock": Wish.UNBLOCK,
}
ANSWERS = frozenset({Wish.AGREE, Wish.REFUSE})
WITHDRAWING = frozenset({Wish.LEAVE, Wish.BLOCK, Wish.REFUSE})
MOST_WAITING = 20
"""At each window."""
MOST_EACH = 5
"""So many wishes of one operator wait at most; of a stranger it is one, from each host."""
MOST_NAMED = 3
"""Channels that one wish may name: the server is asked about each."""
MOST_LINES = 10
"""Of an answer."""
MOST_ASKED = 5
"""So many operators of a channel are asked at most."""
LATER = "Too many people ask me something just now. Please say it again in a minute."
_REPLY_BYTES = 350
_QUESTION_BYTES = LINE_BYTES - 120
"""Of each line that an operator is asked with: the server puts our own mask before it."""
_MOST_REMINDERS = 6
_NAME_BYTES = 80
"""Of the names that others have given in a question: they must not push out what is asked."""
_SERVER_BYTES = 60
"""Of these, a homeserver's in a Matrix id."""


class _Window(Enum):
    """Where somebody is served: nobody waits for those at another."""

    WITHDRAWING = auto()
    """Operators, as far as the relay hears, who end or limit something."""
    OPERATORS = auto()
    OTHERS = auto()
    """Whoever says such a word. The server may know of operators whom the relay does not hear."""
    HELP = auto()
    """Whoever asks what there is to say."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Served:
    source: Source
    """Whose it is: when its turn comes, the nick may be another's."""
    nick: str
    """Where it is answered."""
    is_nick_lost: bool = False
    """The nick was seen to go from them, or to another."""
    priority: Priority = Priority.BACKGROUND
    """With which the server is asked for it."""
    words: str = ""
    """What was said, without the channels."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Said(_Served):
    wish: Wish | None
    """None: they ask what there is to say."""
    named: Sequence[str]
    """Channels."""
    about: str


@dataclass(kw_only=True, slots=True, eq=False)
class _Invitation(_Served):
    chat: RemoteChat


@dataclass(frozen=True, slots=True)
class _Question:
    """Whether a channel may be bridged, as we asked it ourselves."""

    channel: str
    whom: frozenset[str]
    """Operators, folded."""
    until: float
    """By the loop's clock."""
    reminders: Counter[str] = field(default_factory=Counter)
    """How often each of them was told which words count."""


class Desk:
    """Serves one after the other at each window; a server's answer is waited for."""

    def __init__(
        self,
        connection: Connection,
        network: Network,
        host: Host,
        roster: Roster,
        inquiries: Inquiries,
        invited: Callable[[RemoteChat, bool], bool],
    ) -> None:
        """``invited``: has the relay come into a channel into which somebody invites it, known to
        be an operator or not; false if from one who is not it counts for nothing."""
        self._connection = connection
        self._invited = invited
        self._network = network
        self._host = host
        self._roster = roster
        self._inquiries = inquiries
        self._windows = {one: asyncio.Queue[tuple[str, _Served]](MOST_WAITING) for one in _Window}
        self._waiting: Counter[str] = Counter()
        """How many wishes of whom are not done yet."""
        self._unserved: list[_Served] = []
        self._asked: dict[str, _Question] = {}
        """By channel."""

    def take(self, source: Source, text: str) -> bool:
        """Take a private message, if it begins with the word of a wish, or asks for the words, or
        comes from whom we have asked something."""
        words, limits = text.split(), self._connection.isupport
        word = words[0].casefold() if words else ""
        if len(words) == 1:
            word = word.rstrip(".!")
        wish = WISHES.get(word)
        named = [word for word in words[1:] if limits.names_channel(word)]
        if wish is None or (wish in ANSWERS and not named):
            asked = self._asked_about(source)
            if wish is not None and len(words) == 1:
                named = asked
            elif asked and word != HELP:  # What stands behind a yes may take it back.
                self._remind(source, asked)
                return True
        if wish is None and word != HELP:
            return False
        about = " ".join(word for word in words[1:] if not limits.names_channel(word))
        said = _Said(
            source=source, nick=source.nick, wish=wish, named=named, about=about,
            words=f"{word} {_short(about)}".strip(),
        )  # fmt: skip
        if wish is None:
            window, who, most = _Window.HELP, f"{HELP}@{source.host or source.nick}", 1
        elif self.seems_to_run_any(source, named):
            window = _Window.WITHDRAWING if wish in WITHDRAWING else _Window.OPERATORS
            who, most = limits.fold(source.nick), MOST_EACH
        else:
            # Nicks are changed quickly.
            window, who, most = _Window.OTHERS, f"@{source.host or source.nick}", 1
        if wish is None and self._waiting[who]:
            return True  # It is just being said.
        if window is _Window.WITHDRAWING:
            said.priority = Priority.PERSON
        self._queue(window, who, most, said)
        return True

    def take_invitation(self, source: Source, chat: RemoteChat) -> None:
        """Have the relay come into a bridged channel into which somebody invites it: at once, or
        if the server says that they run it. From outside the relay does not hear who does.
        """
        if not self._invited(chat, False):
            said = _Invitation(source=source, nick=source.nick, chat=chat)
            self._queue(_Window.OTHERS, f"@{source.host or source.nick}", 1, said)

    def follow(self, message: Incoming) -> None:
        """Learn from a line that somebody gives up a nick, or takes it: what was wished under it
        and is not done yet is not done."""
        fold = self._connection.isupport.fold
        if message.source is None or message.command not in {"NICK", "QUIT"}:
            return
        old = fold(message.source.nick)
        new = message.param(0) if message.command == "NICK" else ""
        for one in self._unserved:
            if fold(new) == old and one.source.nick == message.source.nick:
                # The same nick, spelled otherwise.
                one.nick, one.source = new, replace(one.source, nick=new)
            elif fold(one.nick) in {old, fold(new)}:
                one.is_nick_lost = True
                if fold(one.nick) == old and new:
                    one.nick = new

    def _queue(self, window: _Window, who: str, most: int, said: _Served) -> None:
        if self._waiting[who] >= most or self._windows[window].full():
            self._answer(said.nick, LATER)
        else:
            self._waiting[who] += 1
            self._windows[window].put_nowait((who, said))
            self._unserved.append(said)

    def find_chat(self, name: str) -> RemoteChat | None:
        """The bridged channel of that name, in which the relay is or is to be."""
        return self._roster.find_chat(name)

    async def work(self) -> None:
        """Do what was asked for. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for window in _Window:
                tasks.create_task(self._work_at(window))

    async def _work_at(self, window: _Window) -> None:
        while True:
            who, said = await self._windows[window].get()
            for one in await self._answer_lines(said):
                await self._tell(window, said.nick, one)
            self._unserved.remove(said)
            self._waiting[who] -= 1
            self._waiting += Counter()  # Drops those who wait for nothing.

    async def _answer_lines(self, said: _Served) -> list[str]:
        if isinstance(said, _Said) and said.wish is None:
            return help_lines(self._connection.own.nick, self._network.settings)
        try:
            answer = await self._serve(said)
        except DeliveryError as error:
            answer = f"That cannot be done: {str(error).rstrip('.')}."
        lines = [row for one in answer.splitlines() for row in _rows(one)]
        if len(lines) > MOST_LINES:
            several = len(answer.splitlines()) > 1
            lines[MOST_LINES - 1 :] = [f"There is more{': name the channel' * several}."]
        return lines

    async def ask(self, request: ConsentRequest) -> Sequence[RemoteUser]:
        """Ask the channel's operators who are there. Raises a ``DeliveryError``."""
        channel = request.chat.name
        found = await self._moderators(channel, Priority.PERSON)
        whom = [nick for nick in found if not self._is_one_of_us(nick)][:MOST_ASKED]
        if not whom:
            raise PermanentFailure(
                f"no operator of {channel} is to be seen from outside: nobody there has the sign "
                "just now, or they are invisible (user mode +i, which many networks set: they say "
                "/mode <nick> -i for a moment), or the channel is hidden (+s, +p) or does not "
                "exist. Say it again when one is to be seen"
            )
        own, fold = self._connection.own.nick, self._connection.isupport.fold
        short = _short(channel)
        yes = (
            f"You run {short}: if you agree, say within {request.minutes} minutes: "
            f"/msg {own} yes {channel}"
        )
        no = f"If not: /msg {own} no {channel}"
        answers = f"{yes}   {no}"
        question = (
            f"{_short_id(request.asked_by)} asks to bridge {short} to the room "
            f"{_short(request.room)} on Matrix, a chat network: what is said here would be shown "
            "and kept there, and people there could speak here.",
            *([answers] if len(answers.encode()) <= _QUESTION_BYTES else [yes, no]),
            f"Later, at any time: /msg {own} status, leave, block <nick or homeserver>, unblock. "
            f"{self._network.settings.who_answers}",
        )
        self._asked[fold(channel)] = _Question(
            channel, frozenset(map(fold, whom)), _now() + request.minutes * 60
        )
        for nick in whom:
            for text in question:
                said = cut(text.strip(), _QUESTION_BYTES)
                await self._connection.say(line("PRIVMSG", nick, said))
        return [self._user(nick) for nick in whom]

    # --- inside ---

    async def _serve(self, said: _Served) -> str:
        if said.is_nick_lost:
            raise _lost(said)
        if isinstance(said, _Invitation):
            await self._run_by(said, [said.chat.name])
            if self._roster.find_chat(said.chat.name) is not None:  # Else it was left meanwhile.
                self._invited(said.chat, True)
            return ""
        if not isinstance(said, _Said) or said.wish is None:
            return ""
        return await self._grant(said, said.wish)

    async def _grant(self, said: _Said, wish: Wish) -> str:
        if wish in {Wish.BLOCK, Wish.UNBLOCK} and not said.about:
            raise PermanentFailure(f"say {wish.value} and a nick or a homeserver")
        if wish in ANSWERS and len(said.named) > 1:
            raise PermanentFailure("that is about several channels; name one")
        if len(said.named) > MOST_NAMED:
            raise PermanentFailure(f"name {MOST_NAMED} channels at a time at most")
        chats = await self._run_by(said, said.named)
        if len(chats) > 1 and wish is not Wish.STATUS:
            names = ", ".join(one.name for one in chats)
            raise PermanentFailure(f"you run several channels here; name one: {names}")
        answers = [
            await self._host.obey(ModeratorWish(
                chat=chat, moderator=self._user(said.source.nick), wish=wish,
                about=said.about, person=self._network.owner_of(said.about),
            ))
            for chat in chats
        ]  # fmt: skip
        if wish in ANSWERS:
            self._asked.pop(self._connection.isupport.fold(chats[0].name), None)
        return "\n".join(answers)

    async def _run_by(self, said: _Served, named: Sequence[str]) -> Sequence[RemoteChat]:
        """The channels among those named, else among the bridged ones, that somebody runs."""
        fold = self._connection.isupport.fold
        # Anybody who is no operator, as far as the relay hears, must name a channel: else they
        # could have the server asked about all channels that they are in.
        chats = [
            self._roster.find_chat(name) or RemoteChat(id=RemoteChatId(fold(name)), name=name)
            for name in named
        ] or [
            one for one in self._roster.chats_of(said.source)
            if self.seems_to_run(said.source, one)
        ]  # fmt: skip
        found = []
        for chat in chats:
            moderators = await self._moderators(chat.name, said.priority)
            # As it is spelled: our rule may take two nicks for one.
            if said.source.is_utf8 and said.source.nick in moderators:
                await self._check_still(said)
                found.append(chat)
        if found:
            return found
        if named:
            raise PermanentFailure(
                f"the server does not say that you are an operator of {', '.join(named)}: take "
                "the sign (+o). From outside I see neither a hidden channel (+s, +p) nor anybody "
                f"invisible (+i): show it for a moment, and say /mode {said.nick} -i"
            )
        if chats:  # The server was asked about them.
            raise PermanentFailure(
                "you are an operator of no bridged channel, as far as the server says; you may "
                "name the channel, too"
            )
        raise PermanentFailure(
            "I see you as an operator of no bridged channel just now; say it once more with the "
            f"channel's name behind it ({said.words} #channel), so that I ask the server"
        )

    async def _moderators(self, channel: str, priority: Priority) -> Collection[str]:
        limits = self._connection.isupport
        return await find_moderators(self._inquiries, channel, limits, priority)

    async def _check_still(self, said: _Served) -> None:
        """Raise ``PermanentFailure`` if the nick may be another's than when it was said."""
        fold, nick = self._connection.isupport.fold, said.source.nick
        found = await find_person(self._inquiries, nick, fold, said.priority)
        if found != said.source or said.is_nick_lost:
            raise _lost(said)

    def seems_to_run_any(self, who: Source, named: Sequence[str]) -> bool:
        """Whether somebody may be an operator of one of the channels, else of any, by what we know
        without asking the server."""
        limits = self._connection.isupport
        if not named:
            return any(self.seems_to_run(who, one) for one in self._roster.chats_of(who))
        known = [chat for chat in map(self._roster.find_chat, named) if chat is not None]
        return any(self.seems_to_run(who, one) for one in known) or any(
            limits.key(who) in question.whom
            for question in map(self._asked.get, map(limits.fold, named))
            if question is not None
        )

    def _asked_about(self, who: Source) -> list[str]:
        """The channels about which somebody was asked and may answer still."""
        key, now = self._connection.isupport.key(who), _now()
        questions = self._asked.values()
        return [one.channel for one in questions if key in one.whom and now < one.until]

    def _remind(self, who: Source, channels: Sequence[str]) -> None:
        own, limits, nick = self._connection.own.nick, self._connection.isupport, who.nick
        for one in channels[:MOST_NAMED]:
            reminders = self._asked[limits.fold(one)].reminders
            if reminders[limits.key(who)] >= _MOST_REMINDERS:
                continue  # It may be a program that answers our answers.
            reminders[limits.key(who)] += 1
            self._answer(
                nick,
                f"You were asked whether {_short(one)} may be bridged. I take no other words as "
                f"an answer than these: /msg {own} yes {one}   or   /msg {own} no {one}",
            )

    def seems_to_run(self, who: Source, chat: RemoteChat) -> bool:
        """Whether somebody is one of the chat's operators, by what is known."""
        limits = self._connection.isupport
        letters = {limits.prefixes[sign] for sign in operator_signs(limits.prefixes)}
        held = self._network.ranks.get(chat.id, {}).get(limits.key(who), "")
        return not letters.isdisjoint(held)

    def _is_one_of_us(self, nick: str) -> bool:
        return self._connection.is_own(Source(nick)) or self._network.is_ours(Source(nick))

    def _user(self, nick: str) -> RemoteUser:
        return RemoteUser(id=RemoteUserId(self._connection.isupport.fold(nick)), name=nick)

    async def _tell(self, window: _Window, nick: str, text: str) -> None:
        """Answer a wish; one of a stranger may stay unanswered where much is to be said."""
        if window is _Window.OTHERS:
            self._answer(nick, text)
            return
        if window is _Window.HELP:
            # Many lines, for anybody: all else that is to be said goes first.
            await self._connection.answer_at_leisure(_notice(nick, text))
            return
        with suppress(TemporaryFailure):  # The connection broke; it is done all the same.
            await self._connection.say(_notice(nick, text))

    def _answer(self, nick: str, text: str) -> None:
        self._connection.answer(_notice(nick, text))


def _lost(said: _Served) -> PermanentFailure:
    return PermanentFailure(
        f"{said.source.nick} may be somebody else than when that was said; please say it again"
    )


def _short(name: str) -> str:
    """A name as it stands among words that must be read whole."""
    whole = clean_text(name)
    return whole if len(whole.encode()) <= _NAME_BYTES else f"{cut(whole, _NAME_BYTES)}..."


def _short_id(user: str) -> str:
    """The same of a Matrix id, whose homeserver is read however long the rest is."""
    whole = clean_text(user)
    if len(whole.encode()) <= _NAME_BYTES:
        return whole
    name, _, server = whole.partition(":")
    if len(server.encode()) > _SERVER_BYTES:  # Whose it is stands at its end.
        server = "..." + server.encode()[-_SERVER_BYTES:].decode("utf-8", "ignore")
    return f"{cut(name, _NAME_BYTES - len(server.encode()))}...:{server}"


def _rows(text: str) -> list[str]:
    """A text as rows that fit into an answer, broken at spaces."""
    rows: list[str] = []
    for word in text.split(" "):
        if rows and len(f"{rows[-1]} {word}".encode()) <= _REPLY_BYTES:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return rows


def _notice(nick: str, text: str) -> Line:
    return notice(nick, text, _REPLY_BYTES)


def _now() -> float:
    return asyncio.get_running_loop().time()
