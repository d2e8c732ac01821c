"""Servers that a SOCKS 5 proxy connects us to."""

import asyncio
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.demo.processes import free_port
from bridge.networks.irc.connections.dial import Way, open_server
from bridge.networks.irc.connections.examination import examine_network
from bridge.networks.irc.protocol import socks
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.secret import Secret
from tests.irc.stage import Network, chat, running
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.scale import examples
from tests.rigs.scripted_irc import scripted_server
from tests.rigs.socks_proxy import SocksProxy, socks_proxy

ONION = "abcdefghijklmnop.onion"


async def test_a_connection_goes_by_the_proxy_which_looks_the_name_up(
    server: IrcServer, channel: str
) -> None:
    async with socks_proxy({ONION: "127.0.0.1"}, ("ann", "sësame")) as proxy:
        way = {"host": "127.0.0.1", "port": proxy.port, "username": "ann", "password": "sësame"}
        at = {"host": ONION, "port": server.port, "tls": False, "proxy": way}
        relay, host = Network(0, servers=[at]).relay()
        async with irc_user(server.port, "carl") as carl, running(relay):
            await host.wait_until_connected()
            await carl.join(channel)
            await relay.join(chat(channel))
            await carl.expect(":trestle!", " JOIN ")
        assert proxy.asked == [(ONION, server.port)]


async def test_tls_goes_through_and_the_certificate_is_the_servers(server: IrcServer) -> None:
    hosts = {"127.0.0.1": "127.0.0.1", "other.test": "127.0.0.1"}
    async with socks_proxy(hosts) as proxy:
        for name in hosts:
            said = await tried(name, server, proxy)
            assert said == ("" if name == "127.0.0.1" else (
                f"The certificate of other.test:{server.tls_port} is not trusted: Hostname "
                "mismatch, certificate is not valid for 'other.test'. If it is your own, name its "
                "issuer with ca_file."
            ))  # fmt: skip


async def tried(host: str, server: IrcServer, proxy: SocksProxy) -> str:
    """Why a server cannot be reached by TLS and the proxy; empty if it can."""
    known = {
        "host": host, "port": server.tls_port, "ca_file": str(server.authority),
        "proxy": {"host": "127.0.0.1", "port": proxy.port},
    }  # fmt: skip
    return await reason_not(IrcSettings.model_validate({"servers": [known]}))


async def reason_not(settings: IrcSettings) -> str:
    try:
        async with open_server(settings.servers[0], settings, Way(flood=(1, 1.0)), "u") as streams:
            streams[1].close()
    except ModuleNotReady as error:
        return str(error)
    return ""


def by_proxy(port: int, **more: object) -> IrcSettings:
    """A network with one server behind a proxy."""
    way = {"host": "127.0.0.1", "port": port} | more
    at = {"host": ONION, "tls": False, "proxy": way}
    return IrcSettings.model_validate({"servers": [at], "own_network": True, "connect_seconds": 5})


@pytest.mark.parametrize(
    ("sign_in", "given", "refusal", "why"),
    [
        (("ann", "x"), {}, 0, "it wants a user name and a password"),
        (("ann", "x"), {"username": "ann", "password": "y"}, 0,
         "it does not take this user name and password"),
        (None, {}, 0, "that host cannot be reached"),
        (None, {}, 2, "its rules do not allow it"),
        (None, {}, 99, "it refuses, by the number 99"),
    ],
)  # fmt: skip
async def test_what_a_proxy_does_not_do_is_told_without_its_address_by_doctor_too(
    sign_in: tuple[str, str] | None, given: dict[str, object], refusal: int, why: str
) -> None:
    async with socks_proxy({}, sign_in) as proxy:
        proxy.refusal = refusal
        settings = by_proxy(proxy.port, **given)
        said = f"{ONION}:6667 cannot be reached: its proxy: {why}."
        assert await reason_not(settings) == said
        (found,) = await examine_network(settings)
        assert found.level == "bad"
        assert found.sentence.startswith(said)


async def test_a_proxy_that_is_not_there_is_silent_or_is_none_is_told() -> None:
    port = free_port()
    assert await reason_not(by_proxy(port)) == (
        f"{ONION}:6667 cannot be reached: nor can its proxy: Connection refused."
    )
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        why = tasks.create_task(reason_not(by_proxy(server.port)))
        (await server.accept()).say_bytes(b"SSH-2.0\r\n")
        assert (await why).endswith("its proxy: it is no SOCKS 5 proxy.")
        why = tasks.create_task(reason_not(by_proxy(server.port)))
        (await server.accept()).close()
        assert (await why).endswith("its proxy: it ended the connection.")
        silent = by_proxy(server.port).model_copy(update={"connect_seconds": 0.3})
        assert await reason_not(silent) == (
            f"{ONION}:6667 did not answer within 0.3 seconds. It is reached by a proxy."
        )


@pytest.mark.parametrize(
    ("changes", "server", "said"),
    [
        ({"ipv6_prefix": "2001:db8::/64"}, {}, "ipv6_prefix without webirc cannot be together"),
        ({"ident_listen": "127.0.0.1:113"}, {}, "h:6697 sees the proxy's address and port"),
        ({}, {"proxy": {"host": "p", "username": "u"}}, "go together"),
        ({}, {"proxy": {"host": "p", "password": "x"}}, "go together"),
        ({}, {"proxy": {"host": "p", "username": "ü" * 200, "password": "x"}}, "at most 255"),
        ({}, {"proxy": {"host": "socks5://p"}}, "is no host"),
        ({}, {"proxy": None, "host": "a.b.ONION"}, "reached by Tor alone: name its `proxy`"),
        ({"sasl_account": "a", "sasl_password": "b"}, {"tls": False}, "in the clear"),
        ({"sasl_account": "a", "sasl_password": "b"}, {"tls": False, "host": "localhost"},
         "in the clear"),
    ],
)  # fmt: skip
def test_what_cannot_be_together_with_a_proxy_is_refused(
    changes: dict[str, object], server: dict[str, object], said: str
) -> None:
    known = {"host": "h", "proxy": {"host": "127.0.0.1"}} | server
    with pytest.raises(ValidationError, match=said):
        IrcSettings.model_validate({"servers": [known]} | changes)


def test_what_tor_encrypts_as_far_as_the_server_is_not_in_the_clear() -> None:
    for onion, host, is_private in (
        (ONION, "127.0.0.1", True), (ONION.upper(), "::1", True),
        (ONION, "tor.example.org", False),
    ):  # fmt: skip
        at = {"host": onion, "tls": False, "proxy": {"host": host, "password": "hush"}}
        at["proxy"] |= {"username": "u"}  # type: ignore[operator]
        settings = IrcSettings.model_validate({"servers": [at]})
        assert settings.servers[0].is_private is is_private
        assert "hush" not in repr(settings)


@examples(200)
@given(st.lists(st.binary(max_size=20)), st.text(max_size=300))
def test_whatever_a_proxy_answers_it_connects_or_says_why_not(
    answers: list[bytes], host: str
) -> None:
    """No answer is taken for more than it is; no name makes more of the question."""
    with (
        closing(socks.ask(host, 6667, ("u", Secret("p")))) as talk,
        suppress(socks.ProxyError, UnicodeError, StopIteration),
    ):
        _, left = next(talk)
        for answer in answers:
            said, left = talk.send(answer.ljust(left, b"\x05")[:left])
            assert len(said) <= 4 + 1 + 255 + 2 + 255
