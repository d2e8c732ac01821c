"""What was said to somebody alone while they were away (draft/chathistory, its ``TARGETS``)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridge.networks.irc.network.history import ANSWER_SECONDS
from bridge.networks.irc.private.missed import MOST_PAGES, STORE_PREFIX
from bridge.sdk.events import RemoteMessage, RemoteRemark
from bridge.sdk.ids import LoginId, RemoteUserId
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.secret import Secret
from bridge.sdk.text import to_plain
from tests.irc.histories import CAPABILITIES, ISUPPORT, at
from tests.irc.loops import SkippingLoop, run_skipping
from tests.irc.stage import Host, Network, chat, running, speaking, synced, user_id
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server

UNTIL = "timestamp=2026-11-26T10:00:10.000Z"
"""A day after the last thing heard: the host's clock stands before that."""


def said(second: int, text: str, who: str = "bob!b@h", to: str = "Alice") -> str:
    return f"@time={at(second)};msgid=m{second} :{who} PRIVMSG {to} :{text}"


def page(nick: str, *lines: str) -> list[str]:
    inside = [one.replace("@", "@batch=h;", 1) for one in lines]
    return [f":irc.test BATCH +h chathistory {nick}", *inside, ":irc.test BATCH -h"]


def targets(*names: str, second: int = 13) -> list[str]:
    lines = [f"@batch=t :irc.test CHATHISTORY TARGETS {one} {at(second)}" for one in names]
    return [":irc.test BATCH +t draft/chathistory-targets", *lines, ":irc.test BATCH -t"]


def texts(host: Host) -> list[str]:
    return [f"{one.chat} {one.id} {to_plain(one.body)}" for one in host.of(RemoteMessage)]


@asynccontextmanager
async def signed_in(
    server: ScriptedServer,
    network: Network,
    capabilities: str = CAPABILITIES,
    isupport: str = ISUPPORT,
    chats: Sequence[str] = (),
) -> AsyncIterator[tuple[Peer, Host]]:
    """Have somebody connected whom the server knows by a password of its own."""
    host = Host(network.store)
    login = Login(
        id=LoginId(7), owner=user_id("Alice"), name="Alice", kind=LoginKind.PERSON,
        secrets={"server_password": Secret("sesame")},
    )  # fmt: skip
    client = network.connector.connect(login, host)
    client.watch_chats([chat(one) for one in chats])
    async with running(client) as run:
        peer = await server.accept()
        await peer.welcome(isupport, capabilities)
        yield peer, host
        assert not run.ended.is_set()


async def been_away(server: ScriptedServer, network: Network) -> None:
    """Have heard one thing, and nothing since."""
    async with signed_in(server, network) as (peer, host):
        peer.say(said(10, "last heard"))
        await host.wait_for(RemoteMessage)
        assert not any("CHATHISTORY" in one for one in peer.heard)
    assert [key for key in network.store.rows if key.startswith(STORE_PREFIX)] == [
        f"{STORE_PREFIX}7:"
    ]


async def test_what_was_said_to_a_person_meanwhile_comes_before_what_is_said_now() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            asked = await peer.expect("CHATHISTORY")
            assert asked == f"CHATHISTORY TARGETS timestamp={at(10)} {UNTIL} 3"
            peer.say(said(20, "now"), *targets("#room", "bob", "Alice"))
            await peer.expect(f"CHATHISTORY TARGETS timestamp={at(13)} {UNTIL} 3")
            peer.say(*targets("carl", second=14))
            assert await peer.expect("CHATHISTORY") == (
                f"CHATHISTORY AFTER bob timestamp={at(10)} 3"
            )
            await peer.expect(f"CHATHISTORY AFTER carl timestamp={at(10)} 3")
            peer.say(*page(
                "bob", said(10, "last heard"), said(11, "one"),
                said(12, "mine", "Alice!a@h", "bob"), said(13, "two"),
            ))  # fmt: skip
            await peer.expect(f"CHATHISTORY AFTER bob timestamp={at(13)} 3")
            peer.say(*page("carl", said(14, "and I", "carl!c@h")))
            await synced(peer)
            assert texts(host) == ["bob m11 one", "bob m13 two", "carl m14 and I"]
            assert all(one.direct for one in host.of(RemoteMessage))
            peer.say(*page("bob", said(20, "now")))
            await host.wait_for(RemoteMessage, 4)
            assert texts(host)[3:] == ["bob m20 now"]
            assert [one.late for one in host.of(RemoteMessage)] == [True] * 3 + [False]
        # All of it is heard: the next time it is asked for what comes after that.
        async with signed_in(server, network) as (peer, host):
            await peer.expect(f"CHATHISTORY TARGETS timestamp={at(20)} ")
            peer.say(*targets(), said(21, "more"))
            await host.wait_for(RemoteMessage)


def entries(*said: tuple[str, int]) -> list[str]:
    inside = (targets(nick, second=second)[1] for nick, second in said)
    return [targets()[0], *inside, targets()[-1]]


async def test_who_spoke_is_asked_for_until_the_server_has_named_all() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, _):
            asked = await peer.expect("CHATHISTORY TARGETS")
            assert asked == f"CHATHISTORY TARGETS timestamp={at(10)} {UNTIL} 3"
            peer.say(*entries(("anna", 11), ("bob", 12), ("carl", 13)))
            # There may be others of the same time.
            before = at(13).replace("13.000", "12.999")
            assert await peer.expect("CHATHISTORY TARGETS") == asked.replace(at(10), before)
            peer.say(*entries(("carl", 13), ("dora", 13), ("eve", 13)))
            assert await peer.expect("CHATHISTORY TARGETS") == asked.replace(at(10), at(13))
            peer.say(*entries(("frank", 14)))
            for nick in ("anna", "bob", "carl", "dora", "eve", "frank"):
                await peer.expect(f"CHATHISTORY AFTER {nick} timestamp={at(10)} 3")
            assert sum("TARGETS" in one for one in peer.heard) == 3


async def test_a_server_that_never_ends_to_name_people_is_asked_so_often_and_no_more() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, _):
            for _ in range(MOST_PAGES):
                await peer.expect("CHATHISTORY TARGETS")
                peer.say(*targets("anna", "bob", "carl"))
            await peer.expect("CHATHISTORY AFTER anna")
            await synced(peer)
            assert sum("TARGETS" in one for one in peer.heard) == MOST_PAGES


def test_who_is_known_to_have_spoken_is_asked_for_where_the_next_answer_does_not_come() -> None:
    async def check(loop: SkippingLoop) -> None:
        async with scripted_server() as server:
            network = Network(server.port)
            await been_away(server, network)
            async with signed_in(server, network) as (peer, host):
                await peer.expect("CHATHISTORY TARGETS")
                peer.say(*entries(("anna", 11), ("bob", 12), ("carl", 13)))
                await peer.expect("CHATHISTORY TARGETS")
                await synced(peer)
                assert not any("CHATHISTORY AFTER" in one for one in peer.heard)
                loop.skipped += ANSWER_SECONDS
                for nick in ("anna", "bob", "carl"):
                    await peer.expect(f"CHATHISTORY AFTER {nick} timestamp={at(10)} 3")
                peer.say(*page("bob", said(12, "before")), *page("anna"))
                peer.say("FAIL CHATHISTORY INVALID_TARGET AFTER carl :Not here any more")
                await host.wait_for(RemoteMessage)
                await synced(peer)
                await synced(peer)
                # That was no answer to the question who else spoke.
                assert sum("CHATHISTORY AFTER bob" in one for one in peer.heard) == 1
            # Others may have spoken: the next connection asks for the whole gap.
            async with signed_in(server, network) as (peer, _):
                await peer.expect(f"CHATHISTORY TARGETS timestamp={at(10)} ")

    run_skipping(check)


async def test_a_time_that_a_wrong_clock_tells_is_not_up_to_where_all_is_heard() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with signed_in(server, network) as (peer, host):
            peer.say(said(9, "odd").replace("2026", "2099"), said(10, "then"))
            await host.wait_for(RemoteMessage, 2)
        async with signed_in(server, network) as (peer, _):
            await peer.expect(f"CHATHISTORY TARGETS timestamp={at(10)} ")


async def test_what_is_missing_when_the_connection_ends_is_asked_for_by_the_next() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(*targets("bob", "carl"), *page("carl", said(14, "and I", "carl!c@h")))
            await host.wait_for(RemoteMessage)
        async with signed_in(server, network) as (peer, _):
            await peer.expect(f"CHATHISTORY TARGETS timestamp={at(10)} ")


async def test_that_somebody_is_gone_is_told_after_what_they_said_before() -> None:
    async with scripted_server() as server:
        network = Network(server.port, netsplit_seconds=0)
        await been_away(server, network)
        async with signed_in(
            server, network, isupport=f"{ISUPPORT} MONITOR=10", chats=["bob"]
        ) as (peer, host):
            await peer.expect("MONITOR + bob")
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(said(20, "now"), ":irc.test 731 {nick} :bob")
            await synced(peer)
            peer.say(*targets("bob"))
            await peer.expect("CHATHISTORY AFTER bob")
            peer.say(*page("bob", said(11, "before")))
            await host.wait_for(RemoteRemark)
            told = [one for one in host.events if isinstance(one, RemoteMessage | RemoteRemark)]
            assert [isinstance(one, RemoteRemark) for one in told] == [False, False, True]
            assert texts(host) == ["bob m11 before", "bob m20 now"]


async def test_what_waited_for_an_answer_is_told_when_the_connection_ends_before() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(said(20, "now"))
            await synced(peer)
            assert texts(host) == []
        assert texts(host) == ["bob m20 now"]
        async with signed_in(server, network) as (peer, _):
            await peer.expect(f"CHATHISTORY TARGETS timestamp={at(10)} ")


async def test_where_the_server_does_not_say_who_spoke_nothing_is_held_back() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(said(20, "now"), "FAIL CHATHISTORY UNKNOWN_COMMAND TARGETS :Unknown command")
            await host.wait_for(RemoteMessage)
            assert texts(host) == ["bob m20 now"]


async def test_of_the_words_about_oneself_in_the_memory_a_no_counts_unanswered() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            await host.opt_out(RemoteUserId("dora"))
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(*targets("bob", "dora"))
            await peer.expect("CHATHISTORY AFTER dora")
            peer.say(*page("dora", said(14, "optin", "dora!d@h")))
            peer.say(*page("bob", said(11, "optout")))
            await host.wait_until(lambda one: one.has_opted_out(RemoteUserId("bob")))
            await synced(peer)
            assert host.has_opted_out(RemoteUserId("dora"))
            assert not any(one.startswith("NOTICE") for one in peer.heard)
            assert texts(host) == []


async def test_a_question_to_our_program_out_of_the_memory_is_not_answered() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(*targets("bob"))
            await peer.expect("CHATHISTORY AFTER bob")
            peer.say(*page("bob", said(11, "\x01VERSION\x01"), said(12, "hi")))
            await host.wait_for(RemoteMessage)
            await synced(peer)
            assert not any(one.startswith("NOTICE") for one in peer.heard)


async def test_out_of_the_memory_nothing_is_heard_that_was_not_asked_for() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        await been_away(server, network)
        async with signed_in(server, network) as (peer, host):
            peer.say(*page("bob", said(11, "too soon")))
            await peer.expect("CHATHISTORY TARGETS")
            peer.say(*targets("bob"), *page("carl", said(12, "and I", "carl!c@h")))
            await peer.expect("CHATHISTORY AFTER bob")
            peer.say(*page("#room", said(13, "to all", to="#room")), *page("bob", said(14, "hi")))
            await host.wait_for(RemoteMessage)
            await synced(peer)
            assert texts(host) == ["bob m14 hi"]


async def test_an_account_is_asked_for_once_services_know_it_and_nobody_else() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network, capabilities=CAPABILITIES) as (alice, host, peer, _):
            peer.say(said(10, "to a nick alone"))
            await host.wait_for(RemoteMessage)
        assert not [one for one in network.store.rows if one.startswith(STORE_PREFIX)]
        async with running(alice):
            peer = await server.accept()
            await peer.welcome(ISUPPORT, CAPABILITIES)
            peer.say(":irc.test 900 {nick} {nick}!a@h alice :You are now logged in as alice")
            peer.say(said(30, "to an account"))
            await host.wait_for(RemoteMessage, 2)
            await synced(peer)
            assert not any("CHATHISTORY" in one for one in peer.heard)
        async with running(alice):
            peer = await server.accept()
            await peer.welcome(ISUPPORT, CAPABILITIES)
            peer.say(":irc.test 900 {nick} {nick}!a@h alice :You are now logged in as alice")
            await peer.expect(f"CHATHISTORY TARGETS timestamp={at(30)} ")
