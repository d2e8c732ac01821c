"""What people say about what is kept about them: see it, have a copy of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.core.bots import BotCall, Stage, say
from bridge.core.outgoing import transaction_id
from bridge.matrix.cache import Recent
from bridge.matrix.mediastore import MediaStore
from bridge.model import Clock, ItemId, KeptRows, Outgoing, SendKind
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import RoomId, UserId

COPY_AGAIN_SECONDS = 300.0
"""A copy is made of every table, and lies at the homeserver: not as often as somebody says so."""

PASSING = (
    "Besides, what passes through here lies sealed in a log for at most 14 days, in the order in "
    "which it came; and what crossed to a network is there, and not mine to show or to take back."
)


class Personal(Protocol):
    """The part of the storage that knows what is kept about a person."""

    async def summary(self, person: UserId) -> Sequence[KeptRows]: ...
    async def copy(self, person: UserId) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Given:
    item: ItemId
    at: float


class OwnData:
    """Obeys ``data``, where nobody else reads the answer."""

    def __init__(
        self, personal: Personal, media: MediaStore, stage: Stage, clock: Clock, bot: UserId
    ) -> None:
        self._personal = personal
        self._media = media
        self._stage = stage
        self._clock = clock
        self._bot = bot
        self._given: Recent[UserId, _Given] = Recent(1000)

    async def show(self, call: BotCall) -> str:
        """Say what is kept about who asks, and give all of it in a file.

        Return what to answer where it was asked. Raises a ``DeliveryError``.
        """
        person, item = call.sender.user_id, call.item.id
        now = asyncio.get_running_loop().time()
        given = self._given.get(person)
        if given is not None and given.item != item and now - given.at < COPY_AGAIN_SECONDS:
            raise PermanentFailure(
                "I have just given you a copy; a new one is to be had five minutes after the last"
            )
        # The chat is a direct one, and somebody may be in it besides.
        room, answer = await self._stage.private_chats.room_for(
            self._bot, person, call.room, direct=call.direct
        )
        summary = await self._personal.summary(person)
        await self._give_file(room, await self._personal.copy(person), item)
        await say(
            self._stage, self._bot, room, in_words(summary), MessageKind.NOTICE, "own data", item
        )
        self._given.put(person, _Given(item, now))
        return answer

    async def _give_file(self, room: RoomId, data: bytes, item: ItemId) -> None:
        name = f"my-data-{self._clock.today()}.zip"
        try:
            media = await self._media.put(data, "application/zip", name, what="your copy")
        except PermanentFailure as error:
            raise PermanentFailure(
                f"{error}. Whoever runs this bridge can make it for you: trestle export"
            ) from error
        content = {
            "msgtype": "m.file", "body": name, "filename": name, "url": media.mxc,
            "info": {"mimetype": "application/zip", "size": len(data)}, "m.mentions": {},
        }  # fmt: skip
        await self._stage.sender.put([Outgoing(
            room=room, user=self._bot, kind=SendKind.EVENT, type="m.room.message",
            content=content,
            transaction_id=transaction_id(self._stage.key_of, "copy of own data", item),
        )])  # fmt: skip


def in_words(summary: Sequence[KeptRows]) -> str:
    """What is kept about somebody, a line for each table."""
    if not summary:
        return f"I keep nothing about you. {PASSING}"
    lines = ["What I keep about you, how much of it, and how long; the file has all of it:"]
    lines += [f"{one.what}: {one.number}, kept {one.how_long}" for one in summary]
    lines.append(
        "Passwords, tokens and keys are named in it and not shown. Whoever has the file reads it; "
        "delete it here once you have saved it."
    )
    return "\n".join([*lines, PASSING])
