"""The main bot in one room: what it hears there, and what it takes for an order."""

from collections.abc import Awaitable, Mapping
from typing import Any

from bridge.core.commands.commands import TAKEN_BACK, MainBot
from bridge.core.host.actions import is_order
from bridge.core.host.bots import Seat, Stage, is_edit
from bridge.core.lanes.lane import Item
from bridge.matrix.html import without_quote
from bridge.matrix.htmltree import clean
from bridge.sdk.commands import PREFIX
from bridge.sdk.ids import RoomId, UserId

_BARE = (
    f"That is no command without {PREFIX} before it. It may be a secret, so it crosses nowhere."
    f"{TAKEN_BACK}"
)


class MainSeat(Seat):
    """The main bot in one room."""

    def __init__(
        self, bot: MainBot, user: UserId, room: RoomId, stage: Stage, *, direct_with: UserId | None
    ) -> None:
        super().__init__("bot:", user, room, stage, direct_with=direct_with)
        self._bot = bot

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether an event may be an order, or hold a secret: of what people say to each other
        nearly nothing may."""
        if event["type"] != "m.room.message" or self.direct_with is not None:
            return super().wants(event) or _is_edited(event)
        content = event["content"]
        body = content.get("body")
        return is_edit(content) or (
            type(body) is str
            and (PREFIX in body or self._bot.bare_orders.holds(self.room, content))
        )

    def handle(self, item: Item) -> Awaitable[None]:
        """Hear one event of the room; of an edit, whether it holds a secret."""
        if _is_edited(item.event):
            return self._hear_edit(item)
        return super().handle(item)

    async def _hear_edit(self, item: Item) -> None:
        call, is_direct = self.call(item, ""), self.direct_with == item.event["sender"]
        if is_direct and await self._bot.login_chat.hear_edit(call):
            return
        new = item.event["content"].get("m.new_content")
        body = new.get("body") if isinstance(new, dict) else None
        text = (
            _order_in(without_quote(new, body), direct=is_direct)
            if isinstance(new, dict) and isinstance(body, str)
            else None
        )
        if text is None:
            await self._take_back_bare(item)
        elif not await self._bot.confidences.take_back(call, text):
            item.drop()

    async def hear(self, item: Item, content: dict[str, Any], body: str) -> None:
        """Obey what begins with the prefix; in a direct chat, anything."""
        sender = UserId(item.event["sender"])
        is_text, is_direct = content.get("msgtype") == "m.text", self.direct_with == sender
        body = without_quote(content, body)
        if is_direct and await self._bot.login_chat.hear(
            self.call(item, ""), body, is_text=is_text
        ):
            return
        text = _order_in(body, direct=is_direct)
        if text is None:
            await self._take_back_bare(item)
            return
        call = self.call(item, text)
        if is_text and self._bot.hears(sender, text):
            await self._bot.obey(call, text)
        # What nobody obeys may hold a secret nevertheless.
        elif not await self._bot.confidences.take_back(call, text):
            item.drop()

    async def _take_back_bare(self, item: Item) -> None:
        """Take back what would be a command with a secret, had it the bot's name before it."""
        call = self.call(item, "")
        if not self._bot.bare_orders.holds(self.room, item.event["content"]):
            item.drop()
            return
        await self._bot.login_chat.remove(call)
        await call.reply(_BARE)


def _is_edited(event: Mapping[str, Any]) -> bool:
    return event["type"] == "m.room.message" and is_edit(event["content"])


def _order_in(body: str, *, direct: bool) -> str | None:
    """What the bot is told to do; None if it is not spoken to."""
    if is_order(body):
        return clean(body.removeprefix(PREFIX)).strip()
    return clean(body).strip() if direct else None
