"""The connection that tries an account shows what the login's own will."""

import asyncio

import pytest

from bridge.demo.processes import free_port
from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.client.signin import SERVER_PASSWORD, IrcLogin
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Source
from bridge.sdk.errors import LoginRequired, ModuleNotReady, PermanentFailure
from bridge.sdk.ids import LoginId, UserId
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.secret import Secret
from tests.irc import stage
from tests.irc.commands import Person
from tests.irc.stores import MemoryStore
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
        with pytest.raises(PermanentFailure, match=r"this bridge's own"):
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


async def tried(
    server: ScriptedServer, network: Network, answers: dict[str, Secret]
) -> tuple[str, str]:
    """By which nick an account is tried, and what the login is called then."""
    async with asyncio.TaskGroup() as tasks:
        trial = tasks.create_task(IrcLogin(SERVER_PASSWORD.id, ALICE, network).submit(answers))
        peer = await server.accept()
        await peer.welcome()
    (nick,) = [one.split()[1] for one in peer.heard if one.startswith("NICK ")]
    return nick, trial.result().name


async def test_the_trial_without_a_nick_has_the_one_that_the_login_will() -> None:
    async with scripted_server() as server:
        network, given = network_of(server, puppet_nick="{name}[m]"), answers("alix")
        assert await tried(server, network, given) == ("alix", "alix")
        del given["nick"]
        # Of the login's name its nick is made, with one mark.
        assert await tried(server, network, given) == ("alice[m]", "alice")
        nicks = network.nicks(MemoryStore())
        await nicks.choose(ALICE, "al", Isupport())
        assert await tried(server, network, given) == ("al", "alice")
        await nicks.choose(ALICE, "lis", Isupport())
        await nicks.choose(BOB, "alice[m]", Isupport())
        await nicks.forget(ALICE)
        assert await tried(server, network, given) == ("alice_[m]", "alice")


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


async def test_of_a_trial_too_the_server_may_ask_who_is_behind_it() -> None:
    port = free_port()
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = network_of(server, ident_listen=f"127.0.0.1:{port}")
        login = IrcLogin(SERVER_PASSWORD.id, ALICE, network)
        trial = tasks.create_task(login.submit(answers("alix")))
        peer = await server.accept()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{peer.address[1]}, {server.port}\r\n".encode())
        assert (await reader.read()).endswith(b" : USERID : UNIX : alice\r\n")
        writer.close()
        await peer.welcome()
        await trial


async def test_what_a_server_says_at_the_end_of_a_trial_is_heeded_by_all() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = network_of(server, flood_burst=4, flood_rate=1000)
        login = IrcLogin(SERVER_PASSWORD.id, ALICE, network)
        trial = tasks.create_task(ended(login))
        peer = await server.accept()
        await peer.expect("USER ")
        peer.say("ERROR :Closing Link: client.test (Excess Flood)")
        peer.close()
        assert "Excess Flood" in await trial
        assert network.flood == (2, 500.0)


async def ended(login: IrcLogin) -> str:
    with pytest.raises(ModuleNotReady) as caught:
        await login.submit(answers("alix"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("kept", "nick"),
    [({"account": "lisa"}, "lisa"), ({"account": "lisa", "nick": "lis"}, "lis"), ({}, "Alice")],
)
async def test_a_linked_account_goes_by_the_nick_that_was_chosen_else_by_its_own_name(
    kept: dict[str, str], nick: str
) -> None:
    async with scripted_server() as server:
        network = stage.Network(server.port)
        login = Login(
            id=LoginId(1), kind=LoginKind.PERSON, owner=ALICE, name="Alice",
            secrets={key: Secret(value) for key, value in kept.items()},
        )  # fmt: skip
        async with stage.running(network.connector.connect(login, stage.Host(network.store))):
            assert await (await server.accept()).expect("NICK ") == f"NICK {nick}"


async def come(server: ScriptedServer, client: IrcClient) -> str:
    """Have a client connect; return by which nick."""

    async def nick() -> str:
        async with client.at_hand() as (connection, _, _):
            return connection.own.nick

    async with stage.running(client), asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(nick())
        await (await server.accept()).welcome()
        return await asked


async def test_the_nick_that_is_given_at_a_sign_in_is_its_owners() -> None:
    async with scripted_server() as server:
        network, host = stage.Network(server.port), stage.Host(MemoryStore())

        def login(number: int, owner: UserId, name: str, **secrets: str) -> IrcClient:
            known = Login(
                id=LoginId(number), owner=owner, name=name,
                kind=LoginKind.PERSON if secrets else LoginKind.AUTOMATIC,
                secrets={key: Secret(value) for key, value in secrets.items()},
            )  # fmt: skip
            return network.connector.connect(known, host)

        assert await come(server, login(1, ALICE, "ali", nick="ali")) == "ali"
        assert await come(server, login(2, BOB, "ali")) == "ali_"
        assert await come(server, login(1, ALICE, "ali", nick="ali")) == "ali"
        inside = network.connector._network
        for other in ("ALI", "trestle"):
            with pytest.raises(PermanentFailure, match=r"this bridge's own|somebody else"):
                await IrcLogin(SERVER_PASSWORD.id, BOB, inside).submit(answers(other))
        # After a restart it is known whose it was what was said by that nick meanwhile.
        anew = network_of(server)
        await anew.nicks(host.store).load()
        assert anew.was_ours(Source("ali", "~alice", "h"), "")
        assert not anew.was_ours(Source("ali", "~bob", "h"), "")


@pytest.mark.parametrize(
    ("kind", "said", "ending"),
    [
        (LoginKind.AUTOMATIC, "Access denied: Bad password", "sign in anew: !trestle login."),
        (LoginKind.AUTOMATIC, "K-Lined: no bridges", "one message tries it again."),
        (LoginKind.PERSON, "Access denied: Bad password",
         "until you sign in anew (!trestle login) or the bridge is restarted."),
    ],
)  # fmt: skip
async def test_who_is_refused_is_not_told_that_the_next_message_connects(
    kind: LoginKind, said: str, ending: str
) -> None:
    async with scripted_server() as server:
        network = stage.Network(server.port)
        ann = Person(network, "Ann", network.relay()[0], kind=kind)
        async with stage.running(ann.client) as run, asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.outcome(ann.client, "#room", "hello"))
            peer = await server.accept()
            await peer.expect("USER ")
            peer.say(f"ERROR :Closing Link: client.test ({said})")
            peer.close()
            await run.wait_for_error()
            for command in ("status", "disconnect"):
                told = await ann.say(command)
                assert "connects you" not in told
                assert told.endswith(ending)
