"""What was said while we were away, by the specification's own forms (draft/chathistory)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from bridge.networks.irc.network.history import MOST_PAGES, Heard, History, Mark
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import parse
from bridge.sdk.events import (
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRanks,
    RemoteReaction,
    RemoteRedaction,
    RemoteShutOut,
)
from bridge.sdk.ids import RemoteChatId
from tests.irc.histories import CAPABILITIES, ISUPPORT, at
from tests.irc.stage import (
    NOW,
    Host,
    Network,
    a_listener,
    chat,
    listening,
    message,
    running,
    synced,
    until,
)
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server


def live(second: int, text: str, who: str = "bob!b@h") -> str:
    return f"@time={at(second)};msgid=m{second} :{who} PRIVMSG #room :{text}"


def page(*lines: str) -> list[str]:
    inside = [one.replace("@", "@batch=h;", 1) for one in lines]
    return [":irc.test BATCH +h chathistory #room", *inside, ":irc.test BATCH -h"]


@asynccontextmanager
async def back_again(
    server: ScriptedServer, network: Network, isupport: str = ISUPPORT, more: str = ""
) -> AsyncIterator[tuple[Peer, Host]]:
    """Have heard one message, been away, and be in the channel again."""
    capabilities = f"{CAPABILITIES} {more}"
    async with listening(server, network, capabilities=capabilities) as (_, host, peer, _):
        peer.say(live(10, "last heard"))
        await host.wait_for(RemoteMessage)
    async with returned(server, network, isupport, capabilities) as (peer, host):
        yield peer, host


@asynccontextmanager
async def returned(
    server: ScriptedServer, network: Network, isupport: str, capabilities: str
) -> AsyncIterator[tuple[Peer, Host]]:
    """Be in the channel again; nothing of it is told before the gap is filled."""
    relay, host = network.relay()
    async with running(relay) as run, asyncio.TaskGroup() as tasks:
        peer = await server.accept()
        await peer.welcome(isupport, capabilities)
        joined = tasks.create_task(relay.join(chat("#room")))
        await peer.admit("bob")
        await joined
        yield peer, host
        assert not run.ended.is_set()


async def test_the_gap_is_filled_in_order_and_nothing_is_told_twice() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with back_again(server, network) as (peer, host):
            asked = await peer.expect("CHATHISTORY")
            assert asked == "CHATHISTORY AFTER #room msgid=m10 3"
            peer.say(live(14, "now"), ":bob!b@h NICK bobby")
            peer.say(*page(live(11, "one"), live(12, "two"), live(13, "three")))
            assert await peer.expect("CHATHISTORY") == "CHATHISTORY AFTER #room msgid=m13 3"
            await synced(peer)
            assert host.texts == ["bob: one", "bob: two", "bob: three"]
            assert not host.of(RemoteMembers)
            peer.say(*page(live(14, "now")))
            await host.wait_for(RemoteMessage, 4)
            assert host.texts == ["bob: one", "bob: two", "bob: three", "bob: now"]
            assert [one.id for one in host.of(RemoteMessage)] == ["m11", "m12", "m13", "m14"]
            assert [one.late for one in host.of(RemoteMessage)] == [True] * 3 + [False]
            told = (one for one in host.events if not isinstance(one, RemoteRanks | RemoteShutOut))
            kinds = [type(one).__name__ for one in told]
            assert kinds[3:] == ["RemoteMembers", "RemoteMessage", "RemoteRename"]


async def test_a_time_that_a_wrong_clock_tells_is_not_up_to_where_the_channel_is_heard() -> None:
    odd = f"@time={at(10).replace('2026', '2099')};msgid=odd :bob!b@h PRIVMSG #room :odd"
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, capabilities=CAPABILITIES) as (_, host, peer, _):
            peer.say(odd, live(9, "then"))
            _, then = await host.wait_for(RemoteMessage, 2)
            assert host.of(RemoteMessage)[0].at == NOW
            assert then.at > NOW
        async with returned(server, network, ISUPPORT, CAPABILITIES) as (peer, host):
            # Else nothing that was said since would be taken for missed.
            assert await peer.expect("CHATHISTORY") == "CHATHISTORY AFTER #room msgid=m9 3"
            peer.say(*page(live(11, "one")))
            await host.wait_for(RemoteMessage)


async def test_what_was_done_to_messages_meanwhile_is_done_once_and_who_came_is_no_news() -> None:
    """From ``chathistory``, with ``draft/event-playback``: more than what was said is there."""

    def act(second: int, tags: str, words: str) -> str:
        return f"@time={at(second)};msgid=m{second}{tags} :bob!b@h {words}"

    lol = ";+draft/reply=m10;+draft/react=lol"
    acts = [
        act(14, lol, "TAGMSG #room"), act(15, "", "REDACT #room m9 :bad"),
        act(16, lol.replace("react", "unreact"), "TAGMSG #room"),
    ]  # fmt: skip
    more = "draft/event-playback draft/message-redaction"
    async with (
        scripted_server() as server,
        back_again(server, Network(server.port), more=more) as (peer, host),
    ):
        await peer.expect("CHATHISTORY AFTER #room msgid=m10 3")
        peer.say(*page(
            f"@time={at(11)};msgid=m11 :{{nick}}!t@h JOIN #room",
            f"@time={at(12)};msgid=m12 :op!o@h KICK #room {{nick}} :out",
            f"@time={at(13)};msgid=m13 :{{nick}}!t@h NICK other",
        ))  # fmt: skip
        await peer.expect("CHATHISTORY AFTER #room msgid=m13 3")
        heard = len(peer.heard)
        peer.say(*page(*acts))
        await peer.expect("CHATHISTORY AFTER #room msgid=m16 3")
        peer.say(*page(*acts[1:]), live(20, "now"))
        await host.wait_until(lambda one: one.texts[-1:] == ["bob: now"])
        (reacted,) = host.of(RemoteReaction)
        assert (reacted.id, reacted.target, reacted.key) == ("m14", "m10", "lol")
        assert [one.target for one in host.of(RemoteRedaction)] == ["m9", reacted.alias]
        await synced(peer)
        assert not any(one.startswith(("PART", "JOIN", "NICK")) for one in peer.heard[heard:])


async def test_our_own_words_are_not_told_back_to_us() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        alice, _ = network.puppet("Alice")
        async with running(alice), asyncio.TaskGroup() as tasks:
            saying = tasks.create_task(alice.send(message("#room", "hello")))
            puppet = await server.accept()
            await puppet.welcome()
            await puppet.admit()
            await saying
            async with back_again(server, network) as (peer, host):
                await peer.expect("CHATHISTORY")
                peer.say(*page(
                    live(11, "by a puppet", "Alice!~alice@h"),
                    live(12, "by a puppet with another nick", "Alice__!alice@h"),
                    live(13, "by the relay", "trestle!~trestle@h"),
                ))  # fmt: skip
                await peer.expect("CHATHISTORY")
                peer.say(*page(
                    live(14, "by one with that nick", "Alice!stranger@h"),
                    live(15, "by one with that nick, too", "trestle!stranger@h"),
                ))  # fmt: skip
                await host.wait_for(RemoteMessage, 2)
                assert [text.partition(": ")[2] for text in host.texts] == [
                    "by one with that nick", "by one with that nick, too"
                ]  # fmt: skip


@pytest.mark.parametrize(
    "refusal",
    [":irc.test FAIL CHATHISTORY INVALID_MSGREFTYPE AFTER #room :No such message",
     ":irc.test FAIL CHATHISTORY MESSAGE_ERROR AFTER #room :Messages could not be retrieved"],
)  # fmt: skip
async def test_a_message_too_old_for_the_server_is_replaced_by_its_time(refusal: str) -> None:
    async with (
        scripted_server() as server,
        back_again(server, Network(server.port)) as (peer, host),
    ):
        await peer.expect("CHATHISTORY AFTER #room msgid=m10")
        peer.say(refusal)
        assert await peer.expect("CHATHISTORY") == (
            f"CHATHISTORY AFTER #room timestamp={at(10)} 3"
        )
        peer.say(live(20, "now"), refusal)
        await host.wait_for(RemoteMessage)
        assert host.texts == ["bob: now"]


@pytest.mark.parametrize(
    "answer",
    [[":irc.test 421 {nick} CHATHISTORY :Unknown command"], page(),
     [":irc.test FAIL CHATHISTORY UNKNOWN_COMMAND :No"]],
)  # fmt: skip
async def test_without_an_answer_that_helps_life_goes_on(answer: list[str]) -> None:
    async with scripted_server() as server:
        isupport = "NICKLEN=30 CHATHISTORY=0 MSGREFTYPES=timestamp"
        async with back_again(server, Network(server.port), isupport) as (peer, host):
            assert await peer.expect("CHATHISTORY") == (
                f"CHATHISTORY AFTER #room timestamp={at(10)} 100"
            )
            peer.say(live(20, "now"), *answer)
            await host.wait_for(RemoteMessage)
            assert host.texts == ["bob: now"]


async def test_a_server_that_repeats_itself_for_ever_is_asked_no_more() -> None:
    async with (
        scripted_server() as server,
        back_again(server, Network(server.port)) as (peer, host),
    ):
        asked = 0
        peer.say(live(59, "now"))
        while (text := await peer.read()) and asked < MOST_PAGES:
            if not text.startswith("CHATHISTORY"):
                continue
            asked += 1
            peer.say(*page(*(
                f"@time={at(11)};msgid=p{asked}-{n} :bob!b@h PRIVMSG #room :again"
                for n in range(3)
            )))  # fmt: skip
            if asked == MOST_PAGES:
                break
        await host.wait_until(lambda one: one.texts[-1:] == ["bob: now"])
        assert len(host.texts) == 3 * MOST_PAGES + 1


async def test_a_channel_that_is_new_or_was_left_is_not_asked_about() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, capabilities=CAPABILITIES) as (relay, host, peer, _):
            peer.say(live(10, "heard"))
            await host.wait_for(RemoteMessage)
            await relay.leave(chat("#room"), "unbridged")
            await peer.expect("PART")
        assert not await network.store.find("heard:")
        async with listening(server, network, capabilities=CAPABILITIES) as (_, _, peer, _):
            await synced(peer)
            assert not any(one.startswith("CHATHISTORY") for one in peer.heard)


async def test_a_channel_that_was_left_and_is_bridged_again_has_no_past() -> None:
    async with a_listener(capabilities=CAPABILITIES) as (relay, host, peer, _):
        peer.say(live(10, "heard"))
        await host.wait_for(RemoteMessage)
        await relay.leave(chat("#room"), "unbridged")
        await peer.expect("PART")
        peer.say(f":{peer.nick}!t@h PART #room :unbridged")
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(relay.join(chat("#room")))
            await peer.admit("bob")
            await joined
        await synced(peer)
        assert not any(one.startswith("CHATHISTORY") for one in peer.heard)


def test_a_refusal_for_a_channel_that_was_left_gives_up_no_other() -> None:
    isupport = Isupport({"CHATHISTORY": "3"})
    room, left = RemoteChatId("#room"), RemoteChatId("#left")
    mark = Mark(datetime(2026, 11, 25, tzinfo=UTC), "m1")
    history = History(isupport, {room: mark, left: mark})
    for one in (room, left):
        history.enter(one, one, 0)
    history.forget(left)
    held = Heard(None, room, Mark(mark.at, "m2"))
    assert history.take(held, replayed=False) == []
    refusal = parse(b":irc.test FAIL CHATHISTORY MESSAGE_ERROR AFTER #left :No")
    assert refusal is not None
    assert history.handle(refusal, {"#room": room}.get, 0) == []
    refusal = parse(b":irc.test FAIL CHATHISTORY NEED_MORE_PARAMS AFTER :No")
    assert refusal is not None
    assert history.handle(refusal, {"#room": room}.get, 0) == [held]


async def test_what_nobody_asked_for_is_not_told() -> None:
    async with scripted_server() as server:
        first = Network(server.port)
        async with listening(server, first, capabilities=CAPABILITIES) as (_, host, peer, _):
            peer.say(*page(live(1, "from before there was a bridge")), live(2, "now"))
            await host.wait_for(RemoteMessage)
            assert host.texts == ["bob: now"]
        async with back_again(server, Network(server.port)) as (peer, host):
            await peer.expect("CHATHISTORY")
            peer.say(*page(live(3, "from before the gap"), live(11, "in it")))
            await host.wait_for(RemoteMessage)
            assert host.texts == ["bob: in it"]


async def test_what_has_no_id_is_known_by_its_time_and_gets_one_that_stays() -> None:
    async with scripted_server() as server:
        async with back_again(server, Network(server.port)) as (peer, host):
            await peer.expect("CHATHISTORY")
            peer.say(*page(
                f"@time={at(9)} :bob!b@h PRIVMSG #room :before",
                f"@time={at(11)} :bob!b@h PRIVMSG #room :after",
            ))  # fmt: skip
            (one,) = await host.wait_for(RemoteMessage)
        assert host.texts == ["bob: after"]
        assert one.id.startswith("h-")


async def test_what_is_asked_is_under_flood_control_with_all_other_lines() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=2, flood_rate=0.001)
        async with back_again(server, network) as (peer, host):
            await synced(peer)
            # A join, and after that one of what is asked about the channel.
            asked = [one for one in peer.heard if one.startswith(("JOIN", "MODE", "CHATHISTORY"))]
            assert len(asked) == 2, asked
            peer.say(live(14, "now"))
            await synced(peer)
            assert not host.of(RemoteMessage)


async def test_what_waits_for_a_silent_server_is_told_though_nobody_says_more() -> None:
    async with scripted_server() as server:
        network = Network(server.port, ping_seconds=3600)
        mark = Mark(datetime(2026, 11, 25, 10, 0, 10, tzinfo=UTC), "m10")
        network.store.rows["heard:#room"] = mark.encode()
        relay, host = network.relay()
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome(ISUPPORT, CAPABILITIES)
            await host.wait_until_connected()
            assert relay._ears is not None
            relay._ears._history._answer_seconds = 0.5
            joined = tasks.create_task(relay.join(chat("#room")))
            await peer.admit("bob")
            await joined
            await peer.expect("CHATHISTORY AFTER #room msgid=m10")
            peer.say(live(20, "now"), ":bob!b@h NICK bobby", live(21, "then", "bobby!b@h"))
            await host.wait_for(RemoteMessage, 2)
            assert host.texts == ["bob: now", "bobby: then"]
            told = (one for one in host.events if not isinstance(one, RemoteRanks | RemoteShutOut))
            kinds = [type(one).__name__ for one in told]
            assert kinds == ["RemoteMembers", "RemoteMessage", "RemoteRename", "RemoteMessage"]
            # The gap is open, and asked for again.
            await peer.expect("CHATHISTORY AFTER #room msgid=m10")
            peer.say(*page(live(11, "missed")))
            await host.wait_for(RemoteMessage, 3)
            assert host.texts[2:] == ["bob: missed"]


async def test_whom_a_split_takes_while_a_gap_is_filled_is_not_put_back_by_an_older_list() -> None:
    mark = Mark(datetime(2026, 11, 25, 10, tzinfo=UTC), "m10")
    async with scripted_server() as server:
        network = Network(server.port, netsplit_seconds=0.05)
        network.store.rows["heard:#room"] = mark.encode()
        relay, host = network.relay()
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome(ISUPPORT, CAPABILITIES)
            tasks.create_task(relay.join(chat("#room")))
            await peer.admit("bob")
            await peer.expect("CHATHISTORY")
            peer.say(":bob!b@h QUIT :one.example two.example")
            await synced(peer)
            ears = relay._ears
            assert ears is not None
            await until(lambda: not ears.splits._held)
            peer.say(*page(live(11, "missed")))
            await host.wait_for(RemoteLeave)
            kinds = [type(one) for one in host.events]
            assert kinds.index(RemoteMembers) < kinds.index(RemoteLeave)


async def test_what_was_missed_is_asked_for_before_the_modes_of_all_channels() -> None:
    names = ["#room", "#other", "#third"]
    mark = Mark(datetime(2026, 11, 25, 10, tzinfo=UTC), "m10")
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=1, flood_rate=20)
        network.store.rows |= {f"heard:{name}": mark.encode() for name in names}
        relay, _ = network.relay()
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome(ISUPPORT, CAPABILITIES)
            for name in names:
                tasks.create_task(relay.join(chat(name)))
            assert await peer.admit("bob") == ",".join(names)
            asked: list[str] = []
            while len(asked) < len(names):
                text = await peer.read()
                asked += [text.split()[0]] if text.startswith(("MODE #", "CHATHISTORY")) else []
            assert asked == ["CHATHISTORY"] * len(names)
