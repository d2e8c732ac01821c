"""Where a client is to be: what is left on the way stays left, what is refused is tried again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import pytest

from bridge.core.host.rejoining import Rejoining
from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import Rank, RemoteChat, RemoteMembers, RemoteShutOut, Removal
from bridge.sdk.ids import InstanceId, RemoteUserId
from bridge.sdk.secret import Secret
from tests.irc.commands import Person
from tests.irc.stage import (
    Network,
    a_listener,
    a_speaker,
    chat,
    listening,
    message,
    running,
    speaking,
    synced,
    until,
    user_id,
)
from tests.rigs.scripted_irc import Peer, scripted_server


async def refused(coming: Awaitable[object], why: str) -> None:
    with pytest.raises(TemporaryFailure, match=why):
        await coming


async def test_a_channel_that_is_left_on_the_way_into_it_is_not_come_into() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        async with listening(server, network) as (relay, _, peer, run):
            joining = tasks.create_task(refused(relay.join(chat("#gone")), "was left"))
            await peer.expect("JOIN #gone")
            await relay.leave(chat("#gone"), "unbridged")
            await joining
            peer.say(":{nick}!t@h JOIN #gone")
            await peer.expect("PART #gone")
            peer.reset()
            await run.wait_for_error()
            async with running(relay):
                again = await server.accept()
                await again.welcome()
                assert await again.admit() == "#room"
        puppet, host = network.puppet("Alice")
        async with running(puppet):
            await host.wait_until(lambda one: bool(one.states))
            sent = puppet.send(message("#gone", "not any more"))
            sending = tasks.create_task(refused(sent, "was left"))
            alices = await server.accept()
            await puppet.leave(chat("#gone"), "unbridged")
            await alices.welcome()
            await sending
            sending = tasks.create_task(puppet.join(chat("#room")))
            assert await alices.admit() == "#room"
            await sending


class Bridged:
    """The relay as the core has it."""

    def __init__(self, client: IrcClient) -> None:
        self.name = InstanceId("test")
        self.trouble: dict[str, str] = {}
        self.is_connected = True
        self._client = client
        self.joined = 0
        self.refused: list[str] = []

    async def join(self, chat: RemoteChat, limit: float, key: Secret | None) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._client.join(chat)
        except TemporaryFailure as error:
            self.refused.append(str(error))
            raise
        self.trouble.pop(chat.id, None)
        self.joined += 1


async def put_out(peer: Peer) -> float:
    """Kick who joins at once; return when it was asked for, in the loop's seconds."""
    assert await peer.expect("JOIN ") == "JOIN #trap"
    asked = asyncio.get_running_loop().time()
    # Read at once, so that nobody who waits for the join sees that we were in.
    in_and_out = ":{nick}!t@h JOIN #trap\r\n:op!o@h KICK #trap {nick} :out\r\n"
    peer.say_bytes(in_and_out.replace("{nick}", peer.nick).encode())
    return asked


def are_pauses(asked: Sequence[float], least: float) -> bool:
    """Whether there is this pause between the first two, and twice as long each time."""
    pauses = [later - sooner for sooner, later in pairwise(asked)]
    return all(pause > least * 2**number * 0.99 for number, pause in enumerate(pauses))


def refuse_for_now(peer: Peer, name: str) -> None:
    peer.say(f":irc.test 437 {{nick}} {name} :Temporarily unavailable")


async def refused_twice(peer: Peer) -> list[float]:
    """Let nobody into #split twice, then let in; return when it was asked for."""
    asked = []
    for _ in range(2):
        await peer.expect("JOIN #split")
        asked.append(asyncio.get_running_loop().time())
        refuse_for_now(peer, "#split")
    assert await peer.admit() == "#split"
    return [*asked, asyncio.get_running_loop().time()]


async def test_a_channel_that_refuses_for_now_is_asked_by_the_core_alone_over_reconnects_too() -> (
    None
):
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        # Were the module to ask as well, it would do so long before the core.
        relay, _ = Network(server.port, rejoin_seconds=0.01).relay()
        bridged, pause = Bridged(relay), 0.2
        core = Rejoining(bridged, lambda: [chat("#split")], first_pause=pause)
        knocking = tasks.create_task(core.run())
        async with running(relay) as run:
            peer = await server.accept()
            await peer.welcome()
            core.note_connected()
            assert are_pauses(await refused_twice(peer), pause)
            await until(lambda: not bridged.trouble)
            peer.reset()
            await run.wait_for_error()
        async with running(relay):
            again = await server.accept()
            await again.welcome()
            # The module comes back by itself, until the core asks.
            await again.expect("JOIN #split")
            core.note_connected()
            await until(lambda: not relay._memberships._returning)
            first = asyncio.get_running_loop().time()
            refuse_for_now(again, "#split")
            assert are_pauses([first, *await refused_twice(again)], pause)
            await until(lambda: not bridged.trouble)
            knocking.cancel()
        assert bridged.joined == 2
        assert [one.heard.count("JOIN #split") for one in (peer, again)] == [3, 4]


async def test_what_is_asked_for_before_there_is_a_connection_is_left_to_who_asks() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        async with listening(server, Network(server.port)) as (relay, _, peer, run):
            peer.reset()
            await run.wait_for_error()
        async with running(relay):
            await asyncio.sleep(0)
            joining = tasks.create_task(refused(relay.join(chat("#room")), "for the moment"))
            again = await server.accept()
            await again.welcome()
            await again.expect("JOIN #room")
            refuse_for_now(again, "#room")
            await joining
            await synced(again)
            assert not relay._memberships._returning


async def test_what_refuses_for_now_and_nobody_asks_for_again_is_tried_with_the_next_connection(
) -> None:  # fmt: skip
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=0.05)
        async with listening(server, network) as (relay, _, peer, run):
            joining = tasks.create_task(refused(relay.join(chat("#split")), "for the moment"))
            await peer.expect("JOIN #split")
            refuse_for_now(peer, "#split")
            await joining
            peer.reset()
            await run.wait_for_error()
            async with running(relay):
                again = await server.accept()
                await again.welcome()
                await again.expect("JOIN #room,#split")
                again.say(":irc.test 480 {nick} #split :Throttled", ":{nick}!t@h JOIN #room")
                await refused_twice(again)


async def test_who_is_kicked_in_the_moment_of_the_join_comes_back_in_its_time() -> None:
    rest = 0.05
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=rest)
        relay, _ = network.relay()
        bridged = Bridged(relay)
        core = Rejoining(bridged, lambda: [chat("#trap")], first_pause=0.01)
        knocking = tasks.create_task(core.run())
        async with running(relay) as run:
            peer = await server.accept()
            await peer.welcome()
            core.note_connected()
            asked = [await put_out(peer) for _ in range(3)]
            assert are_pauses(asked, rest)
            await synced(peer)
            # Who has a room tied hears of it, and knocks no more.
            assert bridged.refused == ["#trap let us in, and we were out again at once."]
            assert bridged.joined == 1
            assert not bridged.trouble
            peer.reset()
            await run.wait_for_error()
        async with running(relay):
            again = await server.accept()
            await again.welcome()
            core.note_connected()
            # All are tried at once. What refuses for the moment is asked for again by the core.
            await again.expect("JOIN #trap")
            refuse_for_now(again, "#trap")
            asked = [await put_out(again)]
            assert await again.admit() == "#trap"
            assert are_pauses([*asked, asyncio.get_running_loop().time()], 8 * rest)
            await synced(again)
            assert again.heard.count("JOIN #trap") == 3
            assert bridged.joined == 2
        knocking.cancel()
        puppet, _ = network.puppet("Alice")
        async with running(puppet):
            joining = tasks.create_task(refused(puppet.join(chat("#trap")), "out again at once"))
            alices = await server.accept()
            await alices.welcome()
            await put_out(alices)
            await joining


async def test_who_is_made_to_leave_comes_back_as_after_a_kick() -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=0.05)
        async with listening(server, network) as (relay, _, peer, _):
            peer.say(":{nick}!t@h PART #ROOM :made to leave")
            assert await peer.admit() == "#room"
            await synced(peer)
            await relay.leave(chat("#room"), "unbridged")
            await peer.expect("PART #room")
            peer.say(":{nick}!t@h PART #room :unbridged")
            await synced(peer)
            assert not relay._memberships.wanted
        async with speaking(server, network) as (puppet, _, peer, _), asyncio.TaskGroup() as tasks:
            peer.say(":{nick}!a@h PART #room :made to leave")
            await synced(peer)
            assert not puppet._memberships.wanted
            sending = tasks.create_task(puppet.send(message("#room", "back")))
            assert await peer.admit() == "#room"
            await sending


async def test_a_kick_is_not_answered_by_the_long_pause_of_a_refusal_before_it() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=3600)
        async with listening(server, network) as (relay, _, peer, _):
            joining = tasks.create_task(refused(relay.join(chat("#split")), "for the moment"))
            await peer.expect("JOIN #split")
            refuse_for_now(peer, "#split")
            await joining
            joining = tasks.create_task(relay.join(chat("#split")))
            assert await peer.admit() == "#split"
            await joining
            relay._memberships._rejoin_seconds = 0.05
            peer.say(":op!o@h KICK #split {nick} :out")
            assert await peer.admit() == "#split"


async def test_what_the_relay_is_to_say_or_do_while_it_rests_after_a_kick_knocks_at_nothing() -> (
    None
):
    async with a_listener(rejoin_seconds=3600) as (relay, _, peer, _):
        room, bob = chat("#room"), RemoteUserId("bob")
        acts: list[Callable[[], Awaitable[object]]] = [
            lambda: relay.set_topic(room, "a topic"),
            lambda: relay.set_rank(room, bob, Rank.VOICED),
            lambda: relay.remove(room, bob, Removal.BAN, "out"),
        ]
        words: list[Callable[[], Awaitable[object]]] = [
            lambda: relay.send(message("#room", "hi", relayed=True)),
            lambda: relay.find_bans(room, ["bob"]),
            lambda: relay.change_bans(room, ["bob"], []),
        ]
        peer.say(":op!o@h KICK #room {nick} :out")
        await synced(peer)
        for act in acts:  # Nobody's words are to wait an hour behind a topic.
            with pytest.raises(PermanentFailure, match=r"put out of #room .* in 60 minutes"):
                await act()
        for say in words:
            with pytest.raises(TemporaryFailure, match="put out of #room") as caught:
                await say()
            assert caught.value.retry_after is not None
            assert 3500 < caught.value.retry_after <= 3600
        # What follows them is the next that the server hears.
        heard = len(peer.heard)
        await synced(peer)
        assert peer.heard[heard:] == ["PONG sync"]


async def test_what_waited_for_the_pause_after_a_kick_is_said_when_it_is_over() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=0.5)
        async with listening(server, network) as (relay, _, peer, _):

            async def say() -> int:
                tries = 0
                while True:
                    tries += 1
                    try:
                        await relay.send(message("#room", "hi", relayed=True))
                    except TemporaryFailure as error:
                        await asyncio.sleep(error.retry_after or 0)
                    else:
                        return tries

            peer.say(":op!o@h KICK #room {nick} :out")
            await synced(peer)
            kicked = asyncio.get_running_loop().time()
            saying = tasks.create_task(say())
            assert await peer.admit() == "#room"
            assert asyncio.get_running_loop().time() - kicked > 0.2
            await peer.expect("PRIVMSG #room :")
            assert await saying <= 3
            assert [one for one in peer.heard if one.startswith("JOIN")] == ["JOIN #room"] * 2


async def test_a_refusal_of_the_nick_is_none_of_a_channel_and_a_late_yes_is_taken() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        async with listening(server, network) as (relay, _, peer, _):
            joining = tasks.create_task(relay.join(chat("#room2")))
            await peer.expect("JOIN #room2")
            peer.say(":irc.test 437 {nick} own :Nick is temporarily unavailable")
            peer.say(":{nick}!t@h JOIN #room2")
            await joining
            for name, answer in (("#busy", "263 {nick} JOIN :Try again"), ("#slow", "")):
                why = "too busy" if answer else "did not answer"
                if not answer:
                    assert relay.link.channels is not None
                    # Only where none is to come is the wait for an answer short.
                    relay.link.channels._join_seconds = 0.2
                joining = tasks.create_task(refused(relay.join(chat(name)), why))
                await peer.expect(f"JOIN {name}")
                if answer:
                    peer.say(f":irc.test {answer}")
                await joining
                peer.say(f":{{nick}}!t@h JOIN {name}")
                await synced(peer)
                await relay.join(chat(name))
            await relay.leave(chat("#slow"), "unbridged")
            await peer.expect("PART #slow :unbridged")
            assert [one for one in peer.heard if one.startswith("PART")] == [
                "PART #slow :unbridged"
            ]


async def test_a_kick_that_is_long_ago_makes_the_next_pause_no_longer() -> None:
    async with a_listener(rejoin_seconds=0.01) as (relay, _, peer, _):
        kept = relay._memberships
        for number in (1, 2):
            peer.say(":op!o@h KICK #room {nick} :out")
            await peer.admit()
            await synced(peer)
            assert kept._kicks[chat("#room").id][0] == number
        kept.kicks_seconds = 0.0  # Now any kick is long ago.
        peer.say(":op!o@h KICK #room {nick} :out")
        await peer.admit()
        assert kept._kicks[chat("#room").id][0] == 1
        await relay.leave(chat("#room"), "unbridged")
        assert not kept._kicks


async def test_of_a_channel_that_is_left_for_good_nothing_is_kept() -> None:
    async with a_listener("@op carl") as (relay, _, peer, _):
        ears, network = relay._ears, relay.network
        assert ears is not None
        peer.say(":carl!c@h QUIT :a.test b.test")
        await synced(peer)
        assert ears.splits._held
        assert network.ranks
        with network.topics.setting(chat("#room").id, "new"):
            await relay.leave(chat("#room"), "unbridged")
        assert not ears.splits._held
        assert not ears.facts._channels
        assert not network.ranks
        assert not network.topics._set


async def test_nor_of_one_that_is_left_while_the_relay_is_not_connected() -> None:
    async with scripted_server() as server:
        stage = Network(server.port)
        async with listening(server, stage, "@op carl") as (relay, _, peer, run):
            network, room = relay.network, chat("#room")
            await synced(peer)
            network.ban_lists.learn(room.id, ["eve!*@*"])
            network.banned.note(room.id, "carl!*@*", user_id("Carl"))
            peer.close()
            await run.wait_for_error()
            assert relay._ears is None
            assert network.ranks
            with network.topics.setting(room.id, "new"):
                await relay.leave(room, "unbridged")
            assert not network.ranks
            assert not network.topics._set
            assert not network.ban_lists.knows(room.id)
            assert not network.banned.noted(room.id)


@pytest.mark.parametrize("is_banned", [False, True])
async def test_a_channel_that_a_wish_of_the_room_finds_full_is_tried_again(
    is_banned: bool,
) -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=0.05)
        async with listening(server, network) as (relay, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out")
            await peer.expect("JOIN #room")
            if is_banned:  # Nobody knocks any more.
                peer.say(":irc.test 474 {nick} #room :Cannot join channel (+b)")
                await host.wait_until(lambda one: any(it.reason for it in one.of(RemoteShutOut)))
            else:
                refuse_for_now(peer, "#room")
                await synced(peer)
            syncing = tasks.create_task(
                refused(Person(network, "Ann", relay, "#room").say("sync"), "for the moment")
            )
            await peer.expect("JOIN #room")
            refuse_for_now(peer, "#room")
            await syncing
            assert await peer.admit() == "#room"
            await host.wait_for(RemoteMembers, 2)


async def test_a_relay_that_rests_after_a_kick_asks_nothing_from_outside() -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=3600)
        async with listening(server, network) as (relay, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out")
            await synced(peer)
            ann, heard = Person(network, "Ann", relay, "#room"), len(peer.heard)
            for word in ("sync", "names", "modes"):
                await refused(ann.say(word), "We were put out of #room and come back in")
            await synced(peer)
            assert peer.heard[heard:] == ["PONG sync"]
            assert len(host.of(RemoteMembers)) == 1


async def test_who_leaves_the_last_channel_on_the_way_into_another_keeps_the_connection() -> None:
    async with a_speaker() as (puppet, _, peer, _), asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(puppet.join(chat("#next")))
        await peer.expect("JOIN #next")
        await puppet.leave(chat("#room"), "left the room")
        await peer.expect("PART #room")
        peer.say(":{nick}!t@h JOIN #next")
        await joining
        await synced(peer)
        assert not any(one.startswith("QUIT") for one in peer.heard)
        await puppet.leave(chat("#next"), "left the room")
        await peer.expect("QUIT")
