"""What was brought over from another bridge goes on: a real homeserver, a real IRC server."""

from pathlib import Path
from typing import Any

from bridge.matrix.client import HomeserverClient, path
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.flow.networks import irc_module
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import TrestleProgram
from tests.rigs.trestle import Town, make_modules, run_town
from tests.rigs.yaml import dump

FORMER, TOKEN = UserId("@heisenbridge:test.example"), "token-of-heisenbridge"


def registered(folder: Path) -> Path:
    """heisenbridge, as the homeserver knows it; it does not run any more."""
    file = folder / "heisenbridge.yaml"
    file.write_text(dump({
        "id": "heisenbridge", "url": None, "as_token": TOKEN, "hs_token": "unused",
        "rate_limited": False, "sender_localpart": "heisenbridge",
        "namespaces": {"users": [{"regex": "@hbirc_.*", "exclusive": True}]},
    }))  # fmt: skip
    file.chmod(0o644)
    return file


async def keep(town: Town, rooms: dict[str, dict[str, Any]]) -> None:
    """Have heisenbridge's bot in the rooms, with what it keeps of them."""
    async with HomeserverClient(town.synapse.url, Secret(TOKEN)) as client:
        account = {"type": "m.login.application_service", "username": "heisenbridge"}
        await client.request("POST", path("v3", "register"), content=account)
        for room, kept in rooms.items():
            await client.request("POST", path("v3", "join", room), user=FORMER, content={})
            where = path("v3", "user", FORMER, "rooms", room, "account_data", "irc")
            await client.request("PUT", where, user=FORMER, content=kept)


async def test_a_room_of_heisenbridge_is_bridged_on_by_its_peoples_nicks_once_brought_over(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    former = registered(folder)
    async with (
        run_town(beside=[former]) as town, run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
    ):  # fmt: skip
        await carl.join("#town")
        alice = await town.person("alice")
        levels = {"users": {FORMER: 100}}
        room, network = [
            await alice.create_room(
                preset="private_chat", invite=[FORMER], power_level_content_override=levels
            )
            for _ in range(2)
        ]
        about = {"user_id": alice.id, "network": "Home"}
        await keep(town, {
            room: {"type": "PlumbedRoom", "name": "#town", **about},
            network: {"type": "NetworkRoom", "name": "Home", "nick": "Wonder", **about},
        })  # fmt: skip
        modules = make_modules(irc_module(irc))
        settings = town.settings_for(folder, database_settings, modules=modules)
        program = TrestleProgram(settings, folder, {"permissions": {"*": "user"}})
        words = ("--registration", str(former), "--network", "Home=near")
        assert "Brought over: 1 rooms, 1 people" in await program.ask(
            "import", "heisenbridge", *words
        )
        await program.start()
        try:
            await alice.say(room, "on by Trestle")
            assert (await carl.expect(":on by Trestle")).startswith(":Wonder!")
            carl.say("PRIVMSG #town :and back")
            assert (await alice.wait_for_text(room, "and back"))["sender"].startswith(
                "@_trestle_near_carl:"
            )
        finally:
            await program.program.stop(limit=25)
