"""Direct chats with the bot, and what it answers."""

import asyncio
from collections import Counter

from bridge.demo.matrix_user import PATIENCE, MatrixUser
from tests.flow.rooms import BOT

_UNASKED = ("from a connection of your own", "to bridge a room, invite me there")
"""What the bot says by itself: before somebody has a connection, and in a new direct chat."""


async def direct_chat(person: MatrixUser) -> str:
    """Begin a direct chat with the bot; give the room."""
    room = await person.create_room(is_direct=True, preset="trusted_private_chat", invite=[BOT])
    await person.wait_until_joined(room, BOT)
    return room


class Chat:
    """A direct chat with the bot."""

    def __init__(self, person: MatrixUser, room: str) -> None:
        self.person = person
        self.room = room
        self._heard: Counter[str] = Counter()

    @classmethod
    async def begun_by(cls, person: MatrixUser) -> "Chat":
        """The person began it."""
        return cls(person, await direct_chat(person))

    @classmethod
    async def accepted_by(cls, person: MatrixUser) -> "Chat":
        """The bot began it."""
        await person.wait_until(lambda: bool(person.invitations))
        (room,) = person.invitations
        await person.join(room)
        return cls(person, room)

    def said(self, text: str) -> list[str]:
        """What the bot said that holds the text."""
        bodies = (str(e["content"].get("body")) for e in self.person.heard(self.room, BOT))
        return [body for body in bodies if text in body]

    async def expect(self, text: str) -> str:
        """Wait until the bot says it once more; give what it said."""
        self._heard[text] += 1
        await self.person.wait_until(lambda: len(self.said(text)) >= self._heard[text])
        return self.said(text)[self._heard[text] - 1]

    async def answer(self, question: str, text: str) -> str:
        """Wait until the bot asks once more, and answer; give the event's id."""
        await self.expect(question)
        return await self.person.say(self.room, text)

    async def say(self, text: str) -> None:
        """Say it."""
        await self.person.say(self.room, text)

    async def wait_until_removed(self, event_id: str) -> None:
        """Return when the event's content is gone. Raises ``TimeoutError``."""
        path = f"v3/rooms/{self.room}/event/{event_id}"
        async with asyncio.timeout(PATIENCE):
            while (await self.person.call("GET", path))["content"]:
                await asyncio.sleep(0.05)


async def order(person: MatrixUser, room: str, words: str, answer: str) -> None:
    """Give the bot a command, and wait for its answer."""
    event = await person.say(room, words)
    await person.wait_until(lambda: bool(said_since(person, room, event)))
    text = said_since(person, room, event)[0]
    assert answer in text, text


def said_since(person: MatrixUser, room: str, event: str) -> list[str]:
    """What the bot has said in the room after an event, in order."""
    heard = person.heard(room)
    place = next((at for at, one in enumerate(heard) if one["event_id"] == event), len(heard))
    said = [str(one["content"].get("body")) for one in heard[place:] if one["sender"] == BOT]
    return [text for text in said if not any(one in text for one in _UNASKED)]


async def order_among(person: MatrixUser, room: str, words: str, answer: str) -> str:
    """Give the bot a command, and wait for its answer among all that it says; give the event."""
    event = await person.say(room, words)
    await person.wait_until(
        lambda: any(answer in text for text in said_since(person, room, event))
    )
    return event


def answers(reader: MatrixUser, room: str) -> list[str]:
    """What the bot has said in the room, in order, but for what it says by itself."""
    said = [str(event["content"]["body"]) for event in reader.heard(room, BOT)]
    return [text for text in said if not any(one in text for one in _UNASKED)]


async def hear(reader: MatrixUser, room: str, number: int, before: int) -> list[str]:
    """The next answers of the bot: it gives one for each command, in their order."""
    await reader.wait_until(lambda: len(answers(reader, room)) >= before + number)
    return answers(reader, room)[before:]


async def answer(person: MatrixUser, room: str, said: str) -> str:
    """Say a command where others read; give what the bot answers."""
    before = len(answers(person, room))
    await person.say(room, f"!trestle {said}")
    return (await hear(person, room, 1, before))[0]
