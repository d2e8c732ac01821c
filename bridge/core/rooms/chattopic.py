"""The topic of a chat, as it stands in its room."""

import asyncio
from typing import TYPE_CHECKING, Any

from bridge.core.rooms.house import House
from bridge.matrix.htmltree import clean
from bridge.model import Follow
from bridge.sdk.events import RemoteTopic

if TYPE_CHECKING:
    from bridge.core.rooms.chatfacts import ChatFacts

KIND = "m.room.topic"


class ChatTopic:
    """One portal's."""

    def __init__(self, facts: "ChatFacts", house: House) -> None:
        self._facts = facts
        self._house = house
        self.is_held = False
        """The chat's was left out, since somebody reads in the room who must not."""
        self.text: str | None = None
        """The room's as far as we know, with what is on its way there."""
        self._missed: RemoteTopic | None = None
        """The chat's, which is to come into the room: at once, or when the homeserver answers."""
        self._in_turn = asyncio.Lock()

    async def follow(self, event: RemoteTopic) -> None:
        """Have the chat's in the room, if that follows it. Raises ``TemporaryFailure``."""
        self.miss(event)  # It follows what was missed before, and comes instead of it.
        await self.make_good()

    async def _put(self, event: RemoteTopic) -> None:
        facts = self._facts
        if facts.portal.follow is Follow.NOTHING:
            return
        if self.text is None:
            state = await facts.ask(self._house.intents.state(facts.portal.room, KIND)) or {}
            if self.text is None:  # Else people have set it meanwhile.
                self.text = clean(str(state.get("topic") or ""))
        # What stands in a room that people made is theirs, until somebody changes the chat's.
        is_theirs = bool(self.text) and not event.is_news and not facts.is_own_room
        if self.text == event.topic or is_theirs or not await facts.can(KIND):
            return
        if self._missed is not event:
            return  # There is a newer one, be it people's.
        await facts.put_state(KIND, {"topic": event.topic})
        self.text = event.topic

    def miss(self, event: RemoteTopic) -> None:
        """Know the chat's for :meth:`make_good`, as the homeserver does not answer."""
        # News of it stays news, though the network says what it has become without any.
        is_news = event.is_news or (self._missed is not None and self._missed.is_news)
        self._missed = RemoteTopic(chat=event.chat, topic=event.topic, is_news=is_news)

    @property
    def is_missed(self) -> bool:
        """Whether the chat's is not in the room for that."""
        return self._missed is not None

    async def make_good(self) -> None:
        """Have what was missed in the room. Raises ``TemporaryFailure``."""
        async with self._in_turn:
            while (missed := self._missed) is not None:
                await self._put(missed)
                if self._missed is missed:
                    self._missed = None

    def overhear(self, event: dict[str, Any]) -> None:
        """Know the topic that people set in the room, though the chat does not get it."""
        topic = event["content"].get("topic")
        if event["type"] == KIND and isinstance(topic, str):
            self.note(clean(topic))

    def note(self, topic: str) -> None:
        """Know the topic that people set in the room: theirs is the newer one."""
        self.text, self.is_held, self._missed = topic, False, None

    async def put_held(self) -> None:
        """Put the chat's newest into the room, if it was left out before.

        Raises ``TemporaryFailure`` when the database is away.
        """
        portal = self._facts.portal
        if not self.is_held or portal.follow is Follow.NOTHING or portal.paused:
            return
        self.is_held = False  # First: it may be left out again.
        try:
            await self._facts.put_state(KIND, {"topic": self.text or ""})
        except BaseException:
            self.is_held = True
            raise
