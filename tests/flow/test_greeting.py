"""Who invites the bot to a direct chat is told what to do next, once."""

from pathlib import Path

from bridge.core.intake.watch import watch_name
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, Play, settings_for
from tests.flow.rooms import BOT
from tests.flow.scripted import BEA, invite
from tests.rigs.scripted_homeserver import SERVER, ScriptedHomeserver, scripted_homeserver
from tests.rigs.trestle import running, wait_until

CHAT, SECOND, OTHERS, ROOM, DICES = (
    RoomId(f"!{name}:{SERVER}") for name in ("chat", "second", "others", "room", "dices")
)
TWO = {"membership": "invite", "is_direct": True}


async def come(
    stage: Play, room: RoomId, name: str, *, bot: str = BOT, direct: bool = True
) -> None:
    """Have Alice invite a bot, and all done that comes of it."""
    router, content = stage.app.parts.router, TWO if direct else {"membership": "invite"}
    assert await stage.put(invite(room, bot, name, content=content)) == 200
    await wait_until(lambda: stage.app.parts.routes.has_seat(UserId(bot), room))
    await wait_until(
        lambda: (
            not len(router.lanes.get(watch_name(room), ())) and stage.app.parts.intake.waiting == 0
        )
    )
    await wait_until(lambda: stage.app.parts.sender.waiting == 0)


def said(homeserver: ScriptedHomeserver) -> dict[str, int]:
    return {one: len(homeserver.texts(one)) for one in homeserver.rooms if homeserver.texts(one)}


async def test_whoever_invites_the_bot_to_a_direct_chat_is_told_once_what_to_say(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        homeserver.rooms |= {one: {ALICE} for one in (CHAT, SECOND, ROOM, DICES)}
        homeserver.rooms[OTHERS] = {ALICE, BEA}
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            stage = Play(homeserver, settings, app)
            await come(stage, OTHERS, "others")
            await come(stage, ROOM, "room", direct=False)
            await come(stage, DICES, "dices", bot=DICE)
            assert said(homeserver) == {}
            await come(stage, CHAT, "first")
            (greeting,) = homeserver.texts(CHAT)
            assert "Write help here" in greeting
            await come(stage, CHAT, "again")
        async with running(settings) as app:
            stage = Play(homeserver, settings, app)
            await come(stage, CHAT, "after the restart")
            await come(stage, SECOND, "elsewhere")
        assert said(homeserver) == {CHAT: 1}
