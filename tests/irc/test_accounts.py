"""Signing in to real services: Atheme behind InspIRCd."""

import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.networks.irc.client import certfp
from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.client.signin import IrcLogin
from bridge.networks.irc.network.keepsakes import CERTIFICATE
from bridge.networks.irc.network.network import Network as IrcNetwork
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.sdk.errors import LoginRequired, ModuleNotReady
from bridge.sdk.events import RemoteJoin, RemoteMembers, RemoteMessage
from bridge.sdk.ids import LoginId, UserId
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.secret import Secret
from tests.irc.handshakes import begin, feed, identity
from tests.irc.stage import Host, Network, chat, running, user_id
from tests.rigs.irc_user import USERNAME, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.services import register, run_services

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[IrcServer]:
    async with run_services() as started:
        await register(started, "account", "opensesame")
        yield started


def relay(server: IrcServer, **settings: Any) -> tuple[IrcClient, Host]:
    secure = {"host": "127.0.0.1", "port": server.tls_port, "ca_file": str(server.authority)}
    return Network(0, servers=[secure], **settings).relay()


async def account_of(server: IrcServer, nick: str, channel: str) -> str:
    """Ask the server which account somebody in a channel has."""
    async with irc_user(server.port, f"ask_{nick}"[:15]) as asker:
        await asker.join(channel)
        asker.say(f"WHOIS {nick}")
        await asker.expect(" 318 ")
        found = [one for one in asker.heard if f" 330 {asker.nick} {nick} " in one]
        return found[0].split()[4] if found else ""


async def test_a_password_signs_in(server: IrcServer) -> None:
    client, host = relay(
        server, nick="by_sasl", sasl_account="account", sasl_password="opensesame"
    )
    async with running(client):
        await host.wait_until_connected()
        await client.join(chat("#accounts"))
        assert await account_of(server, "by_sasl", "#accounts") == "account"


async def test_a_wrong_password_asks_a_person(server: IrcServer) -> None:
    client, _ = relay(server, sasl_account="account", sasl_password="closed")
    async with running(client) as run:
        error = await run.wait_for_error()
    assert isinstance(error, LoginRequired)
    assert "refused the account account" in str(error)
    assert "closed" not in str(error)


async def test_a_certificate_that_we_made_signs_in(server: IrcServer, tmp_path: Path) -> None:
    file = tmp_path / "relay.pem"
    unknown, _ = relay(server, nick="by_cert", certificate_file=str(file))
    async with running(unknown) as run:
        error = await run.wait_for_error()
    assert isinstance(error, LoginRequired)
    assert "refused the certificate" in str(error)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await register(server, "certified", "irrelevant", certfp.fingerprint(file.read_bytes()))
    client, host = relay(server, nick="by_cert", certificate_file=str(file))
    async with running(client):
        await host.wait_until_connected()
        await client.join(chat("#accounts"))
        assert await account_of(server, "by_cert", "#accounts") == "certified"


async def test_the_certificate_that_a_person_had_made_signs_in_once_it_is_known(
    server: IrcServer,
) -> None:
    pem = certfp.make("ann", NOW)
    secure = {"host": "127.0.0.1", "port": server.tls_port, "ca_file": str(server.authority)}
    network = Network(0, servers=[secure])
    login = Login(
        id=LoginId(9), kind=LoginKind.AUTOMATIC, owner=user_id("Ann"), name="Ann",
        secrets={CERTIFICATE: Secret(pem.decode())},
    )  # fmt: skip
    client = network.connector.connect(login, Host(network.store))
    async with running(client), client.at_hand(), irc_user(server.port, "seer") as seer:
        # One must be there to tell NickServ of it.
        seer.say("WHOIS Ann")
        await seer.expect(" 318 ")
        assert not any(" 330 seer Ann " in one for one in seer.heard)
        await register(server, "anns", "irrelevant", certfp.fingerprint(pem))
        client.reconnect("Comes back")
        async with client.at_hand() as (connection, _, _):
            # By SASL: before the server let us in, and not when Atheme looked at it afterwards.
            assert "sasl" in connection.capabilities
            seer.say("WHOIS Ann")
            await seer.expect(" 330 seer Ann anns ")


async def test_what_a_server_tells_of_people_is_known(server: IrcServer) -> None:
    client, host = relay(server, nick="knowing")
    async with running(client), irc_user(server.port, "known") as person:
        await person.join("#people")
        person.say("PRIVMSG NickServ :IDENTIFY account opensesame")
        await person.expect(" 900 ")
        await host.wait_until_connected()
        await client.join(chat("#people"))
        await host.wait_for(RemoteMembers)
        assert client._ears is not None
        people = client._ears.roster.people
        found = people.find("known")
        assert found is not None
        assert found.source.user.lstrip("~") == USERNAME
        person.say("AWAY :at lunch", "PRIVMSG #people :bye")
        await host.wait_for(RemoteMessage)
        assert (found := people.find("known")) is not None
        assert (found.account, found.away) == ("account", "at lunch")
        person.say("PART #people", "PRIVMSG NickServ :LOGOUT")
        await person.expect(" 901 ")
        person.say("JOIN #people")
        await host.wait_for(RemoteJoin)
        assert (found := people.find("known")) is not None
        assert (found.account, found.realname) == ("", "known")


async def test_a_nick_is_taken_back_as_soon_as_a_server_says_that_it_is_free(
    server: IrcServer,
) -> None:
    client, host = relay(server, nick="wanted")
    async with irc_user(server.port, "wanted") as stranger, running(client):
        await host.wait_until_connected()
        await client.join(chat("#taken"))
        async with irc_user(server.port, "onlooker") as onlooker:
            await onlooker.join("#taken")
            # Nothing that the two share tells of it.
            await stranger.quit()
            assert (await onlooker.expect(" NICK ")).startswith(":wanted_!")


async def test_nickserv_lets_in_where_there_is_no_sasl() -> None:
    async with run_services(sasl=False) as server:
        await register(server, "account", "opensesame")
        settings = {"nick": "by_nickserv", "sasl_account": "account", "nickserv": "NickServ"}
        client, host = relay(server, sasl_password="opensesame", **settings)
        async with running(client):
            await host.wait_until_connected()
            await client.join(chat("#accounts"))
            assert await account_of(server, "by_nickserv", "#accounts") == "account"
        wrong, _ = relay(server, sasl_password="closed", **settings)
        async with running(wrong) as run:
            error = await run.wait_for_error()
        assert isinstance(error, LoginRequired)
        assert "NickServ on 127.0.0.1" in str(error)
        # A person who links an account is asked about likewise.
        secure = ServerSettings(host="127.0.0.1", port=server.tls_port, ca_file=server.authority)
        network = IrcNetwork(IrcSettings(servers=(secure,), nickserv="NickServ"))
        signing = IrcLogin("sasl", UserId("@alice:hs"), network)
        answers = {"account": Secret("account"), "password": Secret("closed")}
        with pytest.raises(LoginRequired, match=r"NickServ on .* refused the account account"):
            await signing.submit(answers)
        answers["password"] = Secret("opensesame")
        assert (await signing.submit(answers)).name == "account"


async def test_what_services_state_of_whom_they_know_is_the_same_in_all_words(
    server: IrcServer,
) -> None:
    handshake, _ = begin(
        identity(
            nicks=iter(["stated"]),
            account="account",
            account_password=Secret("opensesame"),
            nickserv="NickServ",
        )
    )
    told = feed(handshake, ":s 001 stated :Hi", ":s 376 stated :End")
    asked = feed(handshake, ":NickServ!s@s NOTICE stated :Parole acceptée")
    async with irc_user(server.port, "stated") as person:
        person.say(*asked)
        stranger = await person.expect(" ACC ")
        person.say(*told)
        await person.expect(" 900 ")
        person.say(*asked)
        known = await person.expect(" ACC ")
    feed(handshake, stranger)
    assert not handshake.done
    feed(handshake, known)
    assert handshake.done


def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "relay.pem"
    made, is_new = certfp.ensure(file, "trestle", NOW)
    assert is_new
    assert certfp.ensure(file, "trestle", NOW) == (made, False)
    assert [one.name for one in tmp_path.iterdir()] == ["relay.pem"]


def test_a_file_that_holds_no_certificate_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "relay.pem").write_text("nothing")
    for path, said in (
        (tmp_path / "relay.pem", "there is no certificate in it"),
        (tmp_path / "away" / "relay.pem", "No such file"),
    ):
        with pytest.raises(ModuleNotReady, match=f"certificate_file .*: {said}"):
            certfp.ensure(path, "trestle", NOW)
