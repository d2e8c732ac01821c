"""Services that go and come while we sign in, or when we are in already."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.networks.irc.protocol.handshake import Identity
from bridge.networks.irc.protocol.latesignin import LateSignIn
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.ids import LoginId
from bridge.sdk.login import Login, LoginKind, LoginState
from bridge.sdk.secret import Secret
from tests.irc.handshakes import begin, feed, identity, sasl
from tests.irc.stage import Host, Network, running, synced, user_id
from tests.rigs.scripted_irc import Peer, scripted_server

CERTIFICATE = {"certificate": "shown where there is TLS"}
ACCOUNT = {"account": "acc", "password": "pw"}
PLAIN = base64.b64encode(b"acc\0acc\0pw").decode()
CAPABILITIES = "cap-notify account-notify"


@asynccontextmanager
async def let_in(
    kept: dict[str, str], capabilities: str = CAPABILITIES
) -> AsyncIterator[tuple[Peer, Host]]:
    """Have somebody's connection let in by a server that has no SASL, as it says."""
    async with scripted_server() as server:
        network = Network(server.port, nickserv="NickServ")
        host = Host(network.store)
        host.kept.update({name: Secret(value) for name, value in kept.items()})
        login = Login(
            id=LoginId(1), kind=LoginKind.PERSON, owner=user_id("Alice"), name="Alice",
            secrets=dict(host.kept),
        )  # fmt: skip
        async with running(network.connector.connect(login, host)):
            peer = await server.accept()
            await peer.welcome(capabilities=capabilities)
            if "account" in kept:
                await peer.expect("PRIVMSG NickServ :IDENTIFY")
                peer.say(":irc.test 900 {nick} {nick}!a@h acc :You are now logged in")
            await host.wait_until_connected()
            yield peer, host


async def come(peer: Peer, ways: str) -> None:
    """Have services come, and be asked for."""
    peer.say(f":irc.test CAP {{nick}} NEW :sasl={ways}")
    assert await peer.read() == "CAP REQ sasl"
    peer.say(":irc.test CAP {nick} ACK :sasl")


async def nothing_more(peer: Peer) -> bool:
    """Whether nothing is said on what the server has said."""
    before = len(peer.heard)
    await synced(peer)
    return peer.heard[before:] == ["PONG sync"]


async def test_services_that_come_later_are_told_who_we_are() -> None:
    async with let_in(CERTIFICATE) as (peer, host):
        await come(peer, "EXTERNAL,PLAIN")
        assert await peer.read() == "AUTHENTICATE EXTERNAL"
        peer.say("AUTHENTICATE +")
        assert await peer.read() == "AUTHENTICATE +"
        peer.say(":irc.test 900 {nick} {nick}!a@h acc :You are", ":irc.test 903 {nick} :Done")
        await host.wait_until(lambda host: bool(host.accounts))
        assert host.accounts == ["account!acc"]
        # They know us now: nothing is to be said when they come again.
        peer.say(":irc.test CAP {nick} DEL :sasl", ":irc.test CAP {nick} NEW :sasl=EXTERNAL")
        assert await nothing_more(peer)


async def test_services_that_know_no_certificate_are_not_asked_again() -> None:
    async with let_in(CERTIFICATE) as (peer, host):
        await come(peer, "EXTERNAL")
        assert await peer.read() == "AUTHENTICATE EXTERNAL"
        peer.say(":irc.test 904 {nick} :no such certificate")
        peer.say(":irc.test CAP {nick} DEL :sasl", ":irc.test CAP {nick} NEW :sasl=EXTERNAL")
        assert await nothing_more(peer)
        assert (LoginState.CONNECTED, "") in host.states
        assert not any(said for _, said in host.states)


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-256"])
async def test_services_that_have_no_way_that_is_open_to_us_are_not_asked(way: str) -> None:
    async with let_in(CERTIFICATE) as (peer, _):
        peer.say(f":irc.test CAP {{nick}} NEW :sasl={way}")
        assert await nothing_more(peer)


async def test_who_is_signed_out_is_signed_in_when_services_come_again() -> None:
    async with let_in(ACCOUNT) as (peer, host):
        peer.say(":irc.test CAP {nick} NEW :sasl=PLAIN")
        assert await nothing_more(peer)
        peer.say(":irc.test CAP {nick} DEL :sasl", ":irc.test 901 {nick} {nick}!a@h :Logged out")
        await come(peer, "PLAIN")
        assert await peer.read() == "AUTHENTICATE PLAIN"
        peer.say("AUTHENTICATE +")
        assert await peer.read() == f"AUTHENTICATE {PLAIN}"
        peer.say(":irc.test 904 {nick} :wrong password")
        await host.wait_until(lambda host: "refused the account acc" in host.states[-1][1])
        assert host.states[-1][0] is LoginState.CONNECTED
        peer.say(":irc.test CAP {nick} NEW :sasl=PLAIN")
        assert await nothing_more(peer)


async def test_services_that_go_while_they_are_asked_are_asked_anew_when_they_come() -> None:
    async with let_in(CERTIFICATE) as (peer, _):
        await come(peer, "EXTERNAL")
        assert await peer.read() == "AUTHENTICATE EXTERNAL"
        peer.say(":irc.test CAP {nick} DEL :sasl", ":irc.test 906 {nick} :aborted")
        assert await nothing_more(peer)
        peer.say("AUTHENTICATE +")  # Of the one that is over.
        assert await nothing_more(peer)
        await come(peer, "EXTERNAL")
        assert await peer.read() == "AUTHENTICATE EXTERNAL"


@pytest.mark.parametrize(
    "told", [":irc.test 900 {nick} {nick}!a@h acc :You are", ":{nick}!a@h ACCOUNT acc"]
)
async def test_who_has_signed_in_otherwise_meanwhile_does_not_again(told: str) -> None:
    async with let_in(CERTIFICATE) as (peer, _):
        peer.say(":irc.test CAP {nick} NEW :sasl=EXTERNAL", told)
        assert await peer.read() == "CAP REQ sasl"
        peer.say(":irc.test CAP {nick} ACK :sasl")
        assert await nothing_more(peer)


async def test_a_late_success_that_proves_nothing_is_not_believed() -> None:
    async with let_in(ACCOUNT) as (peer, host):
        peer.say(":irc.test 901 {nick} {nick}!a@h :Logged out")
        await come(peer, "SCRAM-SHA-256")
        assert await peer.read() == "AUTHENTICATE SCRAM-SHA-256"
        peer.say(":irc.test 903 {nick} :Done")
        await host.wait_until(lambda host: "having proven" in host.states[-1][1])
        assert host.states[-1][0] is LoginState.RECONNECTING


async def test_what_is_no_challenge_ends_the_late_sign_in_and_not_the_connection() -> None:
    async with let_in(CERTIFICATE) as (peer, host):
        await come(peer, "EXTERNAL")
        assert await peer.read() == "AUTHENTICATE EXTERNAL"
        peer.say("AUTHENTICATE !")
        assert await peer.read() == "AUTHENTICATE *"
        peer.say(":irc.test 906 {nick} :aborted")
        assert await nothing_more(peer)
        assert host.states[-1][0] is LoginState.CONNECTED
        assert "could not be signed in to" in host.states[-1][1]


def test_a_certificate_that_was_refused_on_the_way_in_is_not_shown_again() -> None:
    handshake, _ = begin(identity(certificate=True, personal=True))
    known = feed(handshake, ":s CAP * LS :sasl=EXTERNAL", ":s CAP * ACK :sasl")
    assert known[-1] == "AUTHENTICATE EXTERNAL"
    assert feed(handshake, ":s 904 * :no such certificate") == ["CAP END"]
    assert handshake.is_refused
    late = LateSignIn("s", handshake.offers, lambda: pytest.fail("it asks"), repr)
    assert late.begin(is_signed_in=False, is_refused=handshake.is_refused) == []


LEFT = ":s CAP * LS :sasl=PLAIN,EXTERNAL", ":s CAP * ACK :sasl"


def test_services_that_go_amid_the_sign_in_end_it_at_once() -> None:
    handshake, _ = begin(sasl())
    feed(handshake, *LEFT, "AUTHENTICATE +")
    with pytest.raises(ModuleNotReady, match="broke off signing in to the account acc"):
        feed(handshake, ":s CAP * DEL :sasl")


@pytest.mark.parametrize(
    "who",
    [
        identity(certificate=True, personal=True),
        identity(account="acc", account_password=Secret("pw"), nickserv="NickServ"),
    ],
)
def test_who_may_come_in_without_services_does_when_they_go_amid_the_sign_in(
    who: Identity,
) -> None:
    handshake, _ = begin(who)
    feed(handshake, *LEFT)
    assert feed(handshake, ":s CAP * DEL :sasl") == ["CAP END"]
    assert feed(handshake, ":s 904 * :aborted", "AUTHENTICATE +")[:1] in ([], ["AUTHENTICATE *"])
    assert not handshake.is_signed_in


def test_what_comes_while_we_sign_in_is_asked_for_as_soon_as_we_are_in() -> None:
    handshake, _ = begin(identity())
    feed(handshake, ":s CAP * LS :server-time", ":s CAP * ACK :server-time")
    assert feed(handshake, ":s CAP * NEW :echo-message") == []
    assert feed(handshake, ":s 001 bob :Hi") == ["CAP REQ echo-message"]
