"""What the homeserver said before a bot was put out does not bring it back."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.portals.portals import Portals
from bridge.core.portals.shutrooms import see_who_put_it_out
from bridge.matrix.client import HomeserverClient
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RemoteChatId, RoomId, UserId
from bridge.sdk.secret import Secret
from tests.core.ground import Ground
from tests.rigs.scripted_homeserver import Answer, Asked, scripted_homeserver

OUT, IN = RoomId("!out"), RoomId("!in")


async def no_device(user: UserId) -> str:
    return ""


async def test_a_kick_that_comes_while_it_is_asked_where_the_bot_is_is_not_forgiven() -> None:
    namespaces = Namespaces(server_name="test.example", sender_localpart="x")
    bot = namespaces.bot
    state = {IN: "leave", OUT: "join"}

    def member(room: RoomId) -> dict[str, Any]:
        return {
            "type": "m.room.member", "room_id": room, "sender": "@alice:test.example",
            "state_key": bot, "content": {"membership": state[room]},
        }  # fmt: skip

    def kick_after_the_answer(asked: Asked) -> Answer | None:
        if asked.parts == ("joined_rooms",):
            state[OUT] = "leave"
            intents.note_member(member(OUT))
            return Answer(content={"joined_rooms": [IN, OUT]})
        is_question = asked.parts[2:4] == ("state", "m.room.member")
        return Answer(content=member(RoomId(asked.parts[1]))) if is_question else None

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(kick_after_the_answer)
        intents = Intents(client, namespaces, device_of=no_device)
        assert await intents.evictions.find(IN, bot, was_there=True)
        state[IN] = "join"  # It came back, and nobody told us.
        ground = Ground()
        portals = Portals(replace(ground.house, intents=intents, namespaces=namespaces))
        for number, room in enumerate((IN, OUT)):
            chat = RemoteChatId(f"#{number}")
            portals._open(replace(ground.portal, id=number, chat=chat, room=room))
        await see_who_put_it_out(portals, intents, bot)
        assert await intents.evictions.find(OUT, bot, was_there=True)
        with pytest.raises(PermanentFailure, match="was put out"):
            await intents.ensure_joined(OUT, bot)
        assert not intents.evictions.is_out(IN, bot)
        await intents.ensure_joined(IN, bot)


async def test_a_bot_that_comes_back_while_it_is_asked_where_it_is_is_let_in() -> None:
    namespaces = Namespaces(server_name="test.example", sender_localpart="x")
    bot = namespaces.bot

    def member(membership: str) -> dict[str, Any]:
        return {
            "type": "m.room.member", "room_id": OUT, "sender": "@alice:test.example",
            "state_key": bot, "content": {"membership": membership},
        }  # fmt: skip

    def come_back_after_the_answer(asked: Asked) -> Answer | None:
        if asked.parts[2:4] != ("state", "m.room.member"):
            return None
        intents.note_member(member("join"))
        return Answer(content=member("leave"))

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(come_back_after_the_answer)
        intents = Intents(client, namespaces, device_of=no_device)
        await intents.ensure_joined(OUT, bot)
        assert not intents.evictions.is_out(OUT, bot)
