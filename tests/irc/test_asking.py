"""One asker for each connection: whose question goes first, and how long one waits for it."""

import asyncio

import pytest

from bridge.networks.irc.channels.rollcall import find_moderators
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.connections.inquiry import Inquiries, NotAskedError, Priority
from bridge.networks.irc.wire import line
from bridge.sdk.errors import TemporaryFailure
from tests.irc.commands import say
from tests.irc.loops import SteppedLoop, run_stepped
from tests.irc.questions import asked, pong, settled
from tests.irc.stage import (
    Network,
    a_listener,
    chat,
    list_names,
    listening,
    message,
    running,
    synced,
)
from tests.rigs.scripted_irc import Peer, scripted_server

CHANNELS = 30


async def test_a_list_that_the_desk_asked_for_answers_no_persons_command() -> None:
    async with a_listener("@olga bob") as (relay, host, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        peer.say(":bob!b@h PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        told = tasks.create_task(say("names", relay, channel="#room"))
        # Who waits behind the desk does not wait for what the server does not answer.
        marker = await asked(peer)
        assert peer.heard.count("NAMES #room") == 1
        list_names(peer, "@bob")
        peer.say(f":irc.test PONG irc.test :{marker}")
        await peer.expect("NAMES #room")
        list_names(peer, "carl")
        assert await told == "2 in #room:\ncarl\ntrestle"
        await peer.expect("USERHOST bob")
        peer.say(":irc.test 302 {nick} :bob=+b@h")
        await pong(peer)
        await peer.expect("NOTICE bob :leave is done")
        assert len(host.wishes) == 1


async def test_a_refusal_of_what_the_desk_asked_is_none_of_a_persons_command() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        peer.say(":bob!b@h PRIVMSG {nick} :leave #secret")
        await peer.expect("NAMES #secret")
        told = tasks.create_task(say("topic", relay, channel="#room"))
        marker = await asked(peer)
        peer.say(":irc.test 421 trestle NAMES :Unknown command", ":irc.test 400 trestle :No")
        peer.say(f":irc.test PONG irc.test :{marker}")
        await peer.expect("TOPIC #room")
        peer.say(":irc.test 332 trestle #room :of bob")
        await pong(peer)
        assert await told == "#room: of bob"
        await synced(peer)
        why = "NOTICE bob :That cannot be done: NAMES: the server does not know that"
        assert any(one.startswith(why) for one in peer.heard)


async def test_a_person_who_waits_comes_before_what_the_desk_wants_to_know() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port), "@olga bob") as (relay, _, peer, _),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        peer.say(":bob!b@h PRIVMSG {nick} :leave #quiet")
        await peer.expect("NAMES #quiet")
        peer.say(":olga!o@h PRIVMSG {nick} :status #room")
        await synced(peer)
        told = tasks.create_task(say("kick bob", relay, channel="#room"))
        await pong(peer)  # Of #quiet nothing is said.
        assert await peer.expect("NOTICE bob") == (
            f"NOTICE bob :That cannot be done: 127.0.0.1:{server.port} did not answer that."
        )
        assert not any(one == "NAMES #room" for one in peer.heard)
        await peer.expect("KICK #room bob")
        await pong(peer)
        await told
        await peer.expect("NAMES #room")


async def bans(inquiries: Inquiries) -> str:
    with pytest.raises(TemporaryFailure) as failure:
        await inquiries.bans("#room")
    return str(failure.value) if isinstance(failure.value, NotAskedError) else ""


async def test_who_waits_too_long_for_the_turn_is_told_what_to_do() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port, join_seconds=0.5)) as (relay, _, peer, _),
        relay.at_hand() as (_, _, inquiries),
    ):
        await peer.expect("MODE #room b")
        await synced(peer)
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(bans(inquiries)) for _ in range(4)]
        assert asking[0].result() == ""
        assert asking[3].result() == (
            f"127.0.0.1:{server.port} is asked one question at a time, and those before this one "
            "took more than 1 seconds: it was not asked. Try it again in a minute."
        )
        # It was the wait alone: the next one is asked.
        peer.heard.clear()
        assert await bans(inquiries) == ""
        await peer.expect("MODE #room b")


def test_a_person_waits_for_the_turn_for_fifteen_seconds_at_most() -> None:
    async def wait(loop: SteppedLoop) -> None:
        loop.now += 60  # Flood control has long had room.
        async with (
            a_listener(join_seconds=60) as (relay, _, peer, _),
            relay.at_hand() as (_, _, inquiries),
            asyncio.TaskGroup() as tasks,
        ):
            await settled(peer)
            first = tasks.create_task(bans(inquiries))
            await peer.expect("MODE #room b")
            second = tasks.create_task(bans(inquiries))
            await loop.turn()
            loop.now += 14
            await loop.turn()
            assert not second.done()
            loop.now += 2
            assert "took more than 15 seconds: it was not asked" in await second
            first.cancel()

    run_stepped(wait)


def test_a_person_who_comes_while_a_background_question_makes_room_is_not_kept_waiting() -> None:
    async def wait(loop: SteppedLoop) -> None:
        loop.now += 60  # Flood control has long had room.
        async with (
            a_listener(flood_burst=20, flood_rate=2) as (relay, _, peer, _),
            relay.at_hand() as (connection, _, inquiries),
            asyncio.TaskGroup() as tasks,
        ):
            await settled(peer)
            while await connection.leisure(0):
                connection.answer(line("TIME"))
            loop.now += 0.5  # There is room for one of its two lines.
            both = [line("MODE", "#late"), line("MODE", "#late", "b")]
            late = tasks.create_task(inquiries.ask_in_between([both]))
            await peer.expect("MODE #late")
            while connection.answer(line("TIME")):
                pass
            begun, second = loop.now, tasks.create_task(peer.expect("MODE #late b"))
            told = tasks.create_task(say("kick bob", relay, channel="#room"))
            while not second.done():
                loop.now += 0.25
                await loop.turn()
            # Only as long as flood control wants between two lines.
            assert loop.now - begun < 2
            late.cancel()
            told.cancel()

    run_stepped(wait)


@pytest.mark.parametrize("is_desks", [True, False])
async def test_what_goes_in_between_leaves_its_turn_to_a_person_while_nothing_is_written(
    is_desks: bool,
) -> None:
    async with (
        a_listener(flood_burst=100, flood_rate=4) as (relay, _, peer, _),
        relay.at_hand() as (connection, _, inquiries),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        asking = tasks.create_task(say("topic", relay, channel="#room"))
        await peer.expect("TOPIC #room")
        marker = await asked(peer)
        late = tasks.create_task(
            find_moderators(inquiries, "#late", connection.isupport, Priority.BACKGROUND)
            if is_desks
            else inquiries.ask_in_between([[line("MODE", "#late")]])
        )
        await synced(peer)
        # When its turn comes, flood control has no room that nobody wants.
        while connection.answer(line("TIME")):
            pass
        peer.say(":irc.test 331 {nick} #room :No topic", f":irc.test PONG irc.test :{marker}")
        await asking
        told = tasks.create_task(say("kick bob", relay, channel="#room"))
        await peer.expect("KICK #room bob")
        await pong(peer)
        await told
        assert not any("#late" in one for one in peer.heard)
        late.cancel()


async def test_the_names_that_follow_our_own_join_answer_no_question() -> None:
    async with (
        a_listener() as (relay, _, peer, _),
        relay.at_hand() as (_, _, inquiries),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        joined = tasks.create_task(relay.join(chat("#other")))
        await peer.expect("JOIN #other")
        listing = tasks.create_task(inquiries.names("#other"))
        await peer.expect("NAMES #other")
        end = ":irc.test 366 {nick} #other :End"
        peer.say(":{nick}!t@h JOIN #other", ":irc.test 353 {nick} = #other :{nick}", end)
        await joined
        peer.say(":irc.test 353 {nick} = #other :{nick} @olga", end)
        assert await listing == ["trestle", "@olga"]


async def test_where_a_server_gives_no_names_with_a_channel_the_first_question_is_answered() -> (
    None
):
    async with (
        a_listener(flood_burst=100, flood_rate=4) as (relay, _, peer, _),
        relay.at_hand() as (connection, _, inquiries),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        joined = tasks.create_task(relay.join(chat("#other")))
        await peer.expect("JOIN #other")
        # What the bridge itself wants to know waits till flood control has room.
        while connection.answer(line("TIME")):
            pass
        peer.pong = ":irc.test PONG irc.test :{marker}"
        peer.say(":{nick}!t@h JOIN #other")
        await joined
        listing = tasks.create_task(inquiries.names("#other"))
        await peer.expect("NAMES #other")
        peer.say(":irc.test 353 {nick} = #other :{nick} @olga", ":irc.test 366 {nick} #other :End")
        assert await listing == ["trestle", "@olga"]


async def answer_all(peer: Peer, until: int) -> list[str]:
    """Answer each PING until all channels were asked about; return what was written then."""
    lines: list[str] = []
    while sum(one.endswith(" b") for one in lines) < until or not lines[-1].startswith("PING"):
        lines.append(await peer.read())
        if lines[-1].startswith("PING "):
            peer.say(f":irc.test PONG irc.test :{lines[-1].removeprefix('PING ')}")
    return lines


async def test_the_bans_of_many_channels_are_asked_for_under_few_barriers() -> None:
    async with scripted_server() as server:
        relay, _ = Network(server.port, flood_burst=1000, flood_rate=10_000).relay()
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome(isupport="NICKLEN=30 CASEMAPPING=rfc1459 TARGMAX=JOIN:100")
            names = [f"#room{number}" for number in range(CHANNELS)]
            for name in names:
                tasks.create_task(relay.join(chat(name)))
            admitted = 0
            while admitted < CHANNELS:
                admitted += len((await peer.admit()).split(","))
                peer.pong = None
            lines = await answer_all(peer, CHANNELS)
    for name in names:
        assert lines.count(f"MODE {name}") == lines.count(f"MODE {name} b") == 1
    # With a barrier for each it would be three times as many as there are channels.
    assert len(lines) <= 2 * CHANNELS + 5


def test_leisure_is_when_nobody_has_reserved_half_of_the_burst() -> None:
    now = 100.0
    flood = Flood(5, 2.0, lambda: now)
    assert flood.leisure == 0
    waited = []
    for _ in range(4):
        waited.append(flood.leisure)
        now += flood.leisure
        assert flood.reserve() == 0
    # Two lines at once, then at the rate; two places stay free for others.
    assert waited == [0, 0, 0, 0.5]
    assert [flood.reserve() for _ in range(3)] == [0, 0, 0.5]


async def test_a_message_goes_out_as_a_whole_while_many_channels_are_asked_about() -> None:
    names = [f"#room{number}" for number in range(CHANNELS)]
    async with scripted_server() as server:
        relay, _ = Network(server.port, flood_burst=10, flood_rate=8).relay()
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome(isupport="NICKLEN=30 CASEMAPPING=rfc1459 TARGMAX=JOIN:100")
            for name in names:
                tasks.create_task(relay.join(chat(name)))
            admitted = 0
            while admitted < CHANNELS:
                admitted += len((await peer.admit()).split(","))
            for _ in range(10):
                await peer.expect("MODE ")
            await relay.send(message("#room1", "\n".join("abcd")))
            said = [await peer.expect("PRIVMSG #room1 :"), *[await peer.read() for _ in "bcd"]]
            assert [one[-1] for one in said] == list("abcd")
