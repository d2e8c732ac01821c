"""Where those who run a channel come with their wishes, by private message to the relay."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.networks.irc.connection import Connection
from bridge.networks.irc.format import clean_text
from bridge.networks.irc.members import Roster
from bridge.networks.irc.network import Network
from bridge.networks.irc.rollcall import RollCall
from bridge.networks.irc.wire import Source, cut, line
from bridge.sdk.errors import DeliveryError, PermanentFailure
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
MOST_WAITING = 20
MOST_ASKED = 5
"""So many operators of a channel are asked at most."""
LATER = "Too many people ask me something just now. Please say it again in a minute."
_REPLY_BYTES = 350


@dataclass(frozen=True, slots=True)
class _Said:
    nick: str
    words: tuple[str, ...]


class Desk:
    """Serves one after the other; a server's answer is waited for, nobody else is."""

    def __init__(
        self,
        connection: Connection,
        network: Network,
        host: Host,
        roster: Roster,
        rollcall: RollCall,
    ) -> None:
        self._connection = connection
        self._network = network
        self._host = host
        self._roster = roster
        self._inquiry = rollcall
        self._waiting: asyncio.Queue[_Said] = asyncio.Queue(MOST_WAITING)

    def take(self, nick: str, text: str) -> bool:
        """Take a private message, if it begins with the word of a wish."""
        words = tuple(text.split())
        if not words or words[0].casefold() not in WISHES:
            return False
        try:
            self._waiting.put_nowait(_Said(nick, words))
        except asyncio.QueueFull:
            self._answer(nick, LATER)
        return True

    async def work(self) -> None:
        """Do what was asked for. Runs until cancelled."""
        while True:
            said = await self._waiting.get()
            try:
                answer = await self._serve(said)
            except DeliveryError as error:
                answer = f"That cannot be done: {str(error).rstrip('.')}."
            for one in answer.splitlines():
                self._answer(said.nick, one)

    async def ask(self, request: ConsentRequest) -> Sequence[RemoteUser]:
        """Ask the channel's operators who are there. Raises a ``DeliveryError``."""
        channel = request.chat.name
        found = await self._inquiry.moderators(channel)
        whom = [nick for nick in found if not self._is_one_of_us(nick)][:MOST_ASKED]
        if not whom:
            raise PermanentFailure(
                f"no operator of {channel} is to be seen from outside: nobody there has the sign "
                "just now, or the channel is hidden (+s, +p) or does not exist"
            )
        own, limits = self._connection.own.nick, self._connection.isupport
        question = (
            f"{request.asked_by} asks to bridge {channel} to the Matrix room "
            f"{clean_text(request.room)}: what is said here would be shown and kept there, and "
            "people there could speak here.",
            f"You run {channel}: if you agree, say within {request.minutes} minutes: "
            f"/msg {own} yes {channel}   If not: /msg {own} no {channel}",
            f"Later, at any time: /msg {own} status, leave, block <nick or homeserver>, unblock. "
            f"{self._network.settings.who_answers}",
        )
        for nick in whom:
            for text in question:
                await self._connection.say(
                    line("PRIVMSG", nick, cut(text.strip(), limits.line_length - 120))
                )
        return [self._user(nick) for nick in whom]

    # --- inside ---

    async def _serve(self, said: _Said) -> str:
        wish = WISHES[said.words[0].casefold()]
        limits = self._connection.isupport
        named = [word for word in said.words[1:] if limits.names_channel(word)]
        about = " ".join(word for word in said.words[1:] if not limits.names_channel(word))
        if wish in {Wish.BLOCK, Wish.UNBLOCK} and not about:
            raise PermanentFailure(f"say {wish.value} and a nick or a homeserver")
        chats = await self._run_by(said.nick, named)
        if len(chats) > 1 and wish is not Wish.STATUS:
            names = ", ".join(one.name for one in chats)
            raise PermanentFailure(f"you run several channels here; name one: {names}")
        answers = [
            await self._host.obey(ModeratorWish(
                chat=chat, moderator=self._user(said.nick), wish=wish, about=self._who(about),
            ))
            for chat in chats
        ]  # fmt: skip
        return "\n".join(answers)

    async def _run_by(self, nick: str, named: Sequence[str]) -> Sequence[RemoteChat]:
        """The channels among those named, else among the bridged ones, that somebody runs."""
        fold = self._connection.isupport.fold
        chats = [
            self._roster.find_chat(name) or RemoteChat(id=RemoteChatId(fold(name)), name=name)
            for name in named
        ] or self._roster.chats_of(nick)
        found = []
        for chat in chats:
            moderators = await self._inquiry.moderators(chat.name)
            if fold(nick) in map(fold, moderators):
                found.append(chat)
        if found:
            return found
        if named:
            raise PermanentFailure(
                f"the server does not say that you are an operator of {', '.join(named)}: take "
                "the sign (+o), and if the channel is hidden (+s, +p), show it for a moment"
            )
        raise PermanentFailure(
            "you are an operator of no bridged channel, as far as the server says; you may name "
            "the channel, too"
        )

    def _who(self, about: str) -> str:
        """The Matrix id behind a nick of ours; anything else as it is."""
        return self._network.owner_of(about) or about

    def _is_one_of_us(self, nick: str) -> bool:
        return self._connection.is_own_nick(nick) or self._network.is_ours(Source(nick))

    def _user(self, nick: str) -> RemoteUser:
        return RemoteUser(id=RemoteUserId(self._connection.isupport.fold(nick)), name=nick)

    def _answer(self, nick: str, text: str) -> None:
        self._connection.answer(line("NOTICE", nick, cut(text, _REPLY_BYTES)))
