"""The web of a running Trestle, beside a real homeserver."""

from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from bridge.demo.processes import free_port
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import UserId
from bridge.settings.records import Address, DatabaseSettings, FetchingSettings, WebSettings
from tests.conformance.stage import settings_for
from tests.flow.networks import irc_module
from tests.net.canary import canary
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import scripted_homeserver
from tests.rigs.trestle import Town, running

WEB = WebSettings(
    listen=Address("127.0.0.1", 0), manager_url="http://manager.example",
    public_listen=Address("127.0.0.1", 0), public_url="http://public.example",
)  # fmt: skip


async def test_a_person_signs_in_by_the_homeserver_and_by_a_link(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    shown = await alice.call("POST", f"v3/user/{alice.id}/openid/request_token", {})
    settings = replace(town.settings_for(folder, database_settings), web=WEB)
    async with running(settings) as app, aiohttp.ClientSession() as session:
        api = f"http://{app.parts.web.address}/_trestle/v1"
        link = await app.parts.web.make_link(UserId(alice.id), "manager")
        assert link is not None
        assert link.startswith("http://manager.example/link#")
        for path, body in (
            ("/register", shown), ("/links/take", {"token": link.partition("#")[2]}),
        ):  # fmt: skip
            async with session.post(api + path, json=body) as response:
                signed = await response.json()
                assert response.status == 200, signed
            headers = {"Authorization": f"Bearer {signed['token']}"}
            async with session.get(f"{api}/account", headers=headers) as response:
                assert await response.json() == {"user_id": alice.id, "scope": "manager"}
            async with session.post(api + path, json=body) as response:
                assert response.status in (401, 403)  # Once.
        async with session.get(f"http://{app.parts.web.public_address}/link") as response:
            assert response.status == 404  # The manager is on its own origin only.
    assert app.parts.vault.master.is_there


async def test_nobody_reaches_our_own_listeners_through_the_fetcher(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    web = replace(WEB, listen=Address("127.0.0.1", free_port()))
    async with canary() as bird:
        allow = (f"127.0.0.1:{bird.port}", f"127.0.0.1:{web.listen.port}")
        settings = replace(
            town.settings_for(folder, database_settings), web=web,
            fetching=FetchingSettings(allow=allow),
        )  # fmt: skip
        async with running(settings) as app:
            fetched = await app.parts.make_fetcher().fetch(f"http://127.0.0.1:{bird.port}/")
            assert fetched.body == b"canary"
            for own in app.parts.own_listeners():
                with pytest.raises(PermanentFailure, match="not a place that may be reached"):
                    await app.parts.make_fetcher().fetch(f"http://{own}/link")
            assert len(app.parts.own_listeners()) == 3


async def test_what_serves_the_web_takes_no_memory_where_the_settings_have_none(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as irc,
        scripted_homeserver() as homeserver,
        trestle_program(
            settings_for(homeserver, database_settings, folder, modules=irc_module(irc)), folder
        ) as run,
    ):
        loaded = Path(f"/proc/{run.program.pid}/maps").read_text()
        assert "uvloop" in loaded
        assert "aiohttp" not in loaded
