"""``trestle waiting``, just when it is needed."""

import json
from pathlib import Path

from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, ask, settings_for
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver


async def test_what_waits_is_seen_and_put_aside_though_a_secret_is_only_in_the_service(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    def rule(asked: Asked) -> Answer | None:
        return refuse(500, "M_UNKNOWN") if asked.content.get("body") == "bad" else None

    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(rule)
        settings = settings_for(homeserver, database_settings, folder)
        appservice = settings.appservice
        without = {
            "listen": str(appservice.listen),
            "hs_token": appservice.hs_tokens[0].reveal(),
            "sender_localpart": appservice.sender_localpart,
        }
        env = {"TRESTLE_APPSERVICE_AS_TOKEN": appservice.as_token.reveal()}
        async with trestle_program(settings, folder, env=env, appservice=without) as trestle:
            await homeserver.wait_until_greeted()
            await homeserver.put(settings, [ask("bad")], "1")
            await homeserver.wait_until(
                lambda: any(asked.content.get("body") == "bad" for asked in homeserver.asked)
            )
            (row,) = json.loads(await trestle.ask("waiting", "list", "--json"))
            assert (row["room"], row["waiting"]) == (ROOM, 1)
            done = json.loads(await trestle.ask("waiting", "park", ROOM, "--json"))
            assert done["room"] == ROOM
            # It may be tried at that moment: then it is put aside when that has failed.
            (parked,) = await trestle.wait_for_parked(1)
            assert parked["reason"] == "failed"
            assert json.loads(await trestle.ask("waiting", "list", "--json")) == []
