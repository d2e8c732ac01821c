"""A person's direct chat with the bot, in which they sign in."""

from datetime import date
from time import monotonic
from typing import Any, cast

from bridge.core.commands.mainseat import MainSeat
from bridge.core.host.bots import BotCall
from bridge.core.lanes.inflight import Slot
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.progress import Row
from bridge.model import RowId
from bridge.sdk.ids import RoomId, UserId
from tests.conformance.stage import ALICE as ALICES_ID
from tests.conformance.stage import Play
from tests.rigs.scripted_homeserver import Answer, Asked

ALICE = UserId(ALICES_ID)


class Chat:
    """Alice's direct chat with the bot; what she says is handled as its seat does."""

    def __init__(self, stage: Play) -> None:
        self.stage = stage
        self.login_chat = stage.app.parts.main_bot.login_chat
        self.bot = stage.app.parts.namespaces.bot
        self.guests: set[str] = set()
        """Who is invited, wherever the bot is."""
        stage.homeserver.rules.append(self._answer)
        self.room = RoomId("")
        self._numbers: dict[str, int] = {}
        """Where in the journal each event is."""

    async def open(self) -> "Chat":
        """Have the bot open it, and come in."""
        self.room = await self.stage.app.parts.stage.private_chats.open(self.bot, ALICE)
        self.stage.homeserver.rooms[self.room].add(ALICE)
        return self

    def _answer(self, asked: Asked) -> Answer | None:
        match asked.method, asked.parts[2:]:
            case "GET", ("state",):
                content = {"membership": "invite"}
                invited = [
                    {"type": "m.room.member", "state_key": one, "content": content}
                    for one in (self.guests if asked.parts[1] == self.room else {ALICE})
                ]
                return Answer(content=cast(Any, invited))
            case "GET", ("state", "m.room.create", _):
                return Answer(content={"room_version": "11", "creator": self.bot})
            case "GET", ("state", "m.room.power_levels", _):
                return Answer(content={"users": {self.bot: 100}})
        return None

    def call(self, event_id: str, room: str = "", text: str = "") -> BotCall:
        """What a seat makes of a message of hers."""
        event = {"event_id": event_id, "sender": ALICE, "content": {"msgtype": "m.text"}}
        parts = self.stage.app.parts
        direct_with = None if room else ALICE
        seat = MainSeat(
            parts.main_bot, self.bot, RoomId(room or self.room), parts.stage,
            direct_with=direct_with,
        )  # fmt: skip
        lane = Lane(seat, cast(Slot, None))
        lane.since = monotonic()
        number = self._numbers.setdefault(event_id, len(self._numbers) + 1)
        row = Row(RowId(date(2026, 11, 27), number), 1, landed_at=lane.since)
        return seat.call(Item(row, 0, event, lane), text)

    async def hear(self, event_id: str, body: str) -> None:
        """Have an answer of hers taken."""
        assert await self.login_chat.hear(self.call(event_id), body)

    async def expect(self, text: str, number: int = 1, room: str = "") -> None:
        """Wait until the bot has said it so often."""
        homeserver = self.stage.homeserver
        await homeserver.wait_until(
            lambda: sum(text in said for said in homeserver.texts(room or self.room)) >= number
        )
