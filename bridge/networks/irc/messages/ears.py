"""What the listening connection hears, as events for the rooms."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from bridge.networks.irc.channels.facts import Facts
from bridge.networks.irc.channels.members import Roster
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.messages.mentions import with_mentions
from bridge.networks.irc.messages.speech import read_relayed, read_text
from bridge.networks.irc.messages.splits import Splits
from bridge.networks.irc.network import history
from bridge.networks.irc.network.history import Heard, History, Mark, Put
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.relayednames import SIGN
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.acts import TAGS, is_typing, read_act, read_answered, read_typing
from bridge.networks.irc.protocol.batches import is_told_late
from bridge.networks.irc.protocol.multiline import Assembler
from bridge.networks.irc.protocol.times import read_past
from bridge.networks.irc.wire import Incoming, Source
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import (
    Profile,
    RemoteChat,
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemark,
    RemoteShutOut,
    RemoteUser,
)
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, UserId
from bridge.sdk.rich import Mention, Rich, Text


class Ears:
    """Follows one connection: who is in the channels, what is said, what was said before."""

    def __init__(
        self,
        connection: Connection,
        network: Network,
        marks: Mapping[RemoteChatId, Mark],
        now: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._network = network
        self._now = now
        self._assembler = Assembler()
        self._history = History(connection.isupport, marks)
        self.roster = Roster(connection, network)
        self.splits = Splits(network.settings.netsplit_seconds, asyncio.get_running_loop().time)
        self.facts = Facts(connection, network, self.roster)
        network.find_person = self.roster.people.find

    def hear(self, message: Incoming) -> list[Heard]:
        """Follow one line; return what it means to the rooms, in their order."""
        heard = self._come_in(message) if message.command == "JOIN" else []
        has_tags = TAGS in self._connection.capabilities
        heard += self._history.begun(message, has_tags=has_tags)
        if self._history.is_asking or message.batch is not None:
            heard += self._history.handle(message, self._find, self._connection.waited)
        whole = self._assembler.feed(message)
        if whole is None:
            return heard
        if is_typing(whole) and not whole.is_replayed:
            return heard + self._hear_typing(whole)
        if whole.command in replies.TO_PEOPLE:
            return heard + self._hear_speech(whole)
        if whole.is_replayed:
            return heard + self._pass_over(whole)
        events = self.splits.filter(whole, self.roster.handle(whole))
        for event in (*events, *self.facts.handle(whole), *self._hear_invitation(whole)):
            heard += self._history.take(Heard(event, event.chat), replayed=False)
        return heard

    async def keep_asking(self, inquiries: Inquiries) -> None:
        """Ask for what was missed, then for modes, as fast as we may write; keep who is banned,
        which keys channels have, and which are called otherwise.

        Runs until cancelled, or the connection breaks.
        """
        connection = self._connection
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    self._history.keep_asking(connection.say, lambda: connection.waited)
                )
                tasks.create_task(
                    self.facts.keep_asking(inquiries, self._history.wait_until_asked)
                )
                for one in self._network.behind:
                    tasks.create_task(one.keep_writing())
        except* TemporaryFailure:
            pass  # It broke; who listens says it.

    async def release_late(self, put: Put) -> None:
        """Hand over what waits for missed history for too long. Runs until cancelled."""
        await self._history.keep_releasing(put, lambda: self._connection.waited)

    async def end_splits(self, put: Put) -> None:
        """Hand over those who did not come back after a netsplit. Runs until cancelled."""
        while True:
            await self.splits.wait_until_due()
            for event in self.splits.due():
                # Not before a list of names that waits, in which they are still.
                await put(*self._history.take(Heard(event, event.chat), replayed=False))

    def _come_in(self, message: Incoming) -> list[Heard]:
        """See whether it is we who join a channel: then what was missed is asked for."""
        if message.is_replayed or not self._connection.is_own(message.source):
            return []
        chat = self.roster.find_chat(message.param(0))
        if chat is None:
            return []
        if history.CAPABILITY in self._connection.capabilities:
            self._history.enter(chat.id, chat.name, self._connection.waited)
        else:
            self._history.expect(chat.id)
        if (told := read_past(message, self._now())) is not None:
            self._history.begin(chat.id, told)
        return [Heard(RemoteShutOut(chat=chat.id), chat.id)]

    def has_mark(self, chat: RemoteChatId) -> bool:
        """Whether it is known up to where a channel is heard, and it was not left since."""
        return self._history.has_mark(chat)

    def forget(self, chat: RemoteChat) -> None:
        """Forget a channel that we are in no more."""
        self.roster.forget(chat)
        self._history.forget(chat.id)
        self.facts.forget(chat.id)
        self.splits.forget(chat.id)

    def _find(self, name: str) -> RemoteChatId | None:
        chat = self.roster.find_chat(name)
        return chat.id if chat else None

    def _hear_speech(self, message: Incoming) -> list[Heard]:
        chat, source = self.roster.find_chat(message.param(0)), message.source
        if chat is None or source is None or not source.is_person:
            return []
        now, msgid = self._now(), message.tags.get("msgid", "")
        told = read_past(message, now)
        at = told or now
        if message.is_replayed:
            self._history.count(chat.id)
            if not self._history.is_wanted(chat.id, msgid, at):
                return []
        first: list[Heard] = []
        if not msgid and message.command in replies.SPEAKING and not message.is_replayed:
            first = self._history.distrust(chat.id)
        event = self._event(message, chat, source, at)
        # What a server does not say again, it need not know when it is asked what came after it.
        is_kept = (
            message.command in replies.SPEAKING
            or history.PLAYBACK in self._connection.capabilities
        )
        mark = Mark(at, msgid) if msgid and told and is_kept else None
        if event is None and mark is None:
            return first
        heard = Heard(event, chat.id, mark)
        return first + self._history.take(heard, replayed=message.is_replayed)

    def _pass_over(self, message: Incoming) -> list[Heard]:
        """Who came and went meanwhile is known from the list of names; only that it was said
        counts, or a page of nothing else would be asked for again."""
        batch, told = message.batch, read_past(message, self._now())
        chat = self.roster.find_chat(batch.params[0]) if batch and batch.params else None
        if chat is None or told is None or message.command == "BATCH":
            return []
        self._history.count(chat.id)
        msgid = message.tags.get("msgid", "")
        if not self._history.is_wanted(chat.id, msgid, told):
            return []
        return self._history.pass_over(chat.id, told, msgid)

    def _event(
        self, message: Incoming, chat: RemoteChat, source: Source, at: datetime
    ) -> RemoteMessage | RemoteReaction | RemoteRedaction | None:
        if self._is_ours(message, chat, source):
            return None
        sender = self.roster.sender(message, source)
        act = read_act(message, chat.id, sender, self._network.id_of)
        return act or self._message(message, chat, source, sender, at)

    def _message(
        self, message: Incoming, chat: RemoteChat, source: Source, sender: RemoteUser, at: datetime
    ) -> RemoteMessage | None:
        message, profile = self._unwrap(message, source)
        content = read_text(message) if message.command in replies.SPEAKING else None
        if content is None or not content[1].nodes:
            return None
        answered = read_answered(message)
        return RemoteMessage(
            chat=chat.id,
            id=self._network.id_of(message),
            sender=sender,
            kind=content[0],
            body=self._with_mentions(chat, content[1]),
            at=at,
            reply_to=RemoteMessageId(answered) if answered else None,
            profile=profile,
            late=is_told_late(message),
        )

    def _with_mentions(self, chat: RemoteChat, body: Rich) -> Rich:
        find, is_among = partial(self._find_person, chat), partial(self._has_any, chat)
        where, first = self._network.settings.mentions, body.nodes[0]
        if isinstance(first, Text) and where != "nowhere":
            called = self._network.relayed.called(chat.id, first.text)
            if called is not None:
                who, end = called
                rest = Rich((Text(first.text[end:]), *body.nodes[1:]))
                return Rich((who, *with_mentions(rest, find, where, is_among).nodes))
        return with_mentions(body, find, where, is_among)

    def _has_any(self, chat: RemoteChat, words: Sequence[str]) -> bool:
        return self.roster.has_any(chat, words) or self._network.relayed.has_any(chat.id, words)

    def _find_person(self, chat: RemoteChat, nick: str) -> Mention | None:
        # With the sign in it, it was copied from what we said for somebody.
        relayed = self._network.relayed.find(chat.id, nick)
        found = None if relayed and SIGN in nick else self.roster.find(chat, nick)
        if found is None:
            return relayed
        if self._network.is_ours(self.roster.seen(found)):
            owner = self._network.holder_of(found)
            return None if owner is None else Mention(owner, found.nick)  # The relay is nobody's.
        return Mention(UserId(""), found.nick, self.roster.user(found).id)

    def _hear_typing(self, message: Incoming) -> list[Heard]:
        chat, source = self.roster.find_chat(message.param(0)), message.source
        if chat is None or source is None or not source.is_person:
            return []
        if not self._network.settings.typing or self._is_ours(message, chat, source):
            return []
        event = read_typing(message, chat.id, self.roster.sender(message, source))
        return [Heard(event, chat.id)]

    def _hear_invitation(self, message: Incoming) -> list[RemoteRemark]:
        """Say who is invited into a channel: its people may be told (``invite-notify``)."""
        source = message.source
        if message.command != "INVITE" or source is None:
            return []
        chat, who = self.roster.find_chat(message.param(1)), message.named(0)
        if chat is None or self._connection.is_own(who):
            return []
        text = f"{strip_codes(source.nick)} has invited {strip_codes(who.nick)}."
        people = self.roster.sender(message, source), self.roster.user(who)
        return [self._network.remark(chat.id, text, *people)]

    def _unwrap(self, message: Incoming, source: Source) -> tuple[Incoming, Profile | None]:
        """What another relay in the channel says for somebody, and for whom."""
        relays = self._network.relays
        if not relays or self._network.fold(source.nick) not in relays:
            return message, None
        found = read_relayed(message.param(1))
        if found is None:
            return message, None
        name, text = found
        params = (message.param(0), text)
        return replace(message, params=params), Profile(id=self._network.fold(name), name=name)

    def _is_ours(self, message: Incoming, chat: RemoteChat, source: Source) -> bool:
        if message.is_replayed:
            # Whoever is called so today need not be the one who was then.
            msgid = message.tags.get("msgid", "")
            return self._connection.is_relayed(message) or self._network.was_ours(source, msgid)
        if self._connection.is_relayed(message):
            return True
        return self.roster.is_one_of_us(chat.name, source)
