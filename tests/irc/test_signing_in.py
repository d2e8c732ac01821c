"""The connection that tries an account shows what the login's own will."""

import asyncio

import pytest

from bridge.networks.irc.network import Network
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.signin import SERVER_PASSWORD, IrcLogin
from bridge.sdk.errors import LoginRequired, PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_irc import ScriptedServer, scripted_server

ALICE, BOB = UserId("@alice:example.org"), UserId("@bob:example.org")


def network_of(server: ScriptedServer, **more: object) -> Network:
    return Network(IrcSettings.model_validate({
        "servers": [{"host": "127.0.0.1", "port": server.port, "tls": False}],
        "own_network": True, "connect_seconds": 60, "connect_rate": 100, **more,
    }))  # fmt: skip


def answers(nick: str) -> dict[str, Secret]:
    return {"server_password": Secret("opensesame"), "nick": Secret(nick)}


async def ban(server: ScriptedServer) -> None:
    peer = await server.accept()
    await peer.expect("USER ")
    peer.say("ERROR :Closing Link: client.test (K-Lined: no bridges)")
    peer.close()


async def test_the_trial_shows_and_has_what_the_login_will() -> None:
    async with scripted_server() as server:
        network = network_of(
            server, ipv6_prefix="2001:db8:7::/64", show_matrix_ids=False,
            webirc={"password": "trusted", "gateway": "trestle"},
        )  # fmt: skip
        login = IrcLogin(SERVER_PASSWORD.id, ALICE, network)
        with pytest.raises(PermanentFailure, match="this bridge's own"):
            await login.submit(answers("TRESTLE"))
        assert not server.peers
        async with asyncio.TaskGroup() as tasks:
            trial = tasks.create_task(login.submit(answers("alix")))
            peer = await server.accept()
            await peer.welcome()
        assert trial.result().name == "alix"
        said = "\n".join(peer.heard)
        assert said.startswith("WEBIRC trusted trestle 2001:db8:7:")
        assert "USER alice " in said
        assert "@alice:example.org" not in said


async def test_a_ban_of_those_who_try_holds_others_back() -> None:
    async with scripted_server() as server:
        network = network_of(server)
        for owner in (ALICE, BOB):
            login = IrcLogin(SERVER_PASSWORD.id, owner, network)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ban(server))
                with pytest.raises(LoginRequired, match="no bridges"):
                    await login.submit(answers("alix"))
        with pytest.raises(LoginRequired, match="seems to ban the address"):
            await login.submit(answers("alix"))
        assert len(server.peers) == 2
