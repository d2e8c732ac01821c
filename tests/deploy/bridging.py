"""What `docs/how-to/bridge-irc.md` has people say, said by them, and what comes of it."""

import aiohttp

from bridge.demo.matrix_user import MatrixUser
from tests.deploy.blocks import bare_blocks
from tests.deploy.ground import SERVER, Ground
from tests.deploy.tools import TOP
from tests.rigs.irc_user import IrcUser, irc_user

PAGE = TOP / "docs/how-to/bridge-irc.md"
BOT, GHOST = f"@trestle:{SERVER}", f"@_trestle_libera_olga:{SERVER}"

ANSWERS = {
    "!trestle bridge libera #channel": "I have asked those who are there (olga)",
    "/msg trestle yes #channel": "This room is bridged to #channel on libera: olga",
    "!trestle status": "#channel on libera: running",
    "!trestle set": "members: default",
    "!trestle unbridge": "#channel on libera is no longer bridged here.",
}
"""The lines of the page in its order, and what is said in the room then."""


async def bridge_as_told(ground: Ground, said: str) -> None:
    """Bridge a closed room of somebody's, whose bot has the power of a moderator."""
    lines = [line.strip() for text in bare_blocks(PAGE) for line in text.splitlines()]
    assert lines == list(ANSWERS)
    async with (
        aiohttp.ClientSession() as session,
        irc_user(ground.irc_port, "olga") as olga,
    ):
        await olga.join("#channel")
        you = await MatrixUser(session, ground.synapse.url, "you").register()
        room = await you.create_room(name="Hall")
        await you.invite(room, BOT)
        await you.wait_until_joined(room, BOT)
        levels = {"users": {BOT: 50}, "invite": 50}  # Who made the room stands above.
        await you.set_state(room, "m.room.power_levels", levels)
        for line, answer in ANSWERS.items():
            await _say(you, olga, room, line)
            await you.wait_for_text(room, answer)
            if line.startswith("/msg"):
                await _talk(you, olga, room)
        await olga.expect("PART #channel")


async def _say(you: MatrixUser, olga: IrcUser, room: str, line: str) -> None:
    if line.startswith("/msg "):
        _, nick, text = line.split(maxsplit=2)
        olga.say(f"PRIVMSG {nick} :{text}")
    else:
        await you.say(room, line)


async def _talk(you: MatrixUser, olga: IrcUser, room: str) -> None:
    """A line each way: each is somebody of their own on the other side, as the page says."""
    await you.say(room, "good morning")
    assert (await olga.expect("PRIVMSG #channel", "good morning")).startswith(":you!")
    olga.say("PRIVMSG #channel :good evening")
    heard = await you.wait_for_text(room, "good evening")
    assert heard["sender"] == GHOST
    marks = [one for one in you.events if one["type"] == "m.bridge" and one["room_id"] == room]
    assert marks[0]["content"]["channel"]["displayname"] == "#channel"
