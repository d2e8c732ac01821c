"""What answers a command, and what is said meanwhile and is somebody else's."""

import asyncio

import pytest

from bridge.networks.irc.client import IrcClient
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteMessage, Sender
from tests.irc.stage import Network, chat, user_id
from tests.irc.test_client import listening, speaking
from tests.irc.test_commands import BY_NAME, Call
from tests.irc.test_whispers import direct
from tests.rigs.scripted_irc import Peer, scripted_server


async def say(said: str, relay: IrcClient, own: IrcClient | None = None, channel: str = "") -> str:
    """Give a command, in the channel's room if one is named; return the answer."""
    name, _, text = said.partition(" ")
    return await BY_NAME[name].run(
        Call(
            sender=Sender(user_id=user_id("Alice"), name="Alice"), text=text, own=own, relay=relay,
            chat=chat(channel) if channel else None,
        )
    )  # fmt: skip


async def test_what_a_person_answers_is_for_a_direct_chat_and_a_services_for_who_asked() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        relay, _ = network.relay()
        async with (
            speaking(server, network) as (puppet, host, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            told = tasks.create_task(say("msg bob hi", relay, puppet))
            await peer.expect("PRIVMSG bob :hi")
            peer.say(":bob!b@h PRIVMSG Alice :for you alone", ":bob!b@h PRIVMSG Alice :optout")
            await host.wait_for(RemoteMessage)
            await peer.expect("NOTICE bob :Nothing that you say is carried")
            assert host.opted_out == {"bob"}
            assert (await told).startswith("Said to bob. What is answered in private comes")
            assert direct(host) == [("bob", "text", "for you alone")]

            asked = tasks.create_task(say("msg NickServ info bob", relay, puppet))
            await peer.expect("PRIVMSG NickServ :info bob")
            peer.say(":NickServ!s@h NOTICE Alice :bob is registered")
            assert await asked == "Said to NickServ.\nNickServ: bob is registered"
            assert len(host.of(RemoteMessage)) == 1
            for name in ("alice", "Alice@services.test"):
                with pytest.raises(PermanentFailure, match="own connection: write to them in"):
                    await say(f"msg {name} hi", relay, puppet)


async def test_what_is_said_of_another_channel_or_message_is_no_answer() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port)) as (relay, _, peer, _),
        asyncio.TaskGroup() as tasks,
    ):
        peer.pong = None
        refused = ":irc.test 404 trestle #room :Cannot send to channel"
        for said, wrong, right, answer in (
            (
                "names",
                (":irc.test 353 trestle = #secret :eve", ":irc.test 366 trestle #secret :End"),
                (":irc.test 353 trestle = #Room :bob", ":irc.test 366 trestle #ROOM :End"),
                "1 in #room:\nbob",
            ),
            (
                "topic",
                (":irc.test 332 trestle #secret :of eve",),
                (":irc.test 332 trestle #room :of bob",),
                "#room: of bob",
            ),
            ("kick bob", (":x!x@h KICK #secret bob",), (), "bob is out of #room."),
        ):
            told = tasks.create_task(say(said, relay, channel="#room"))
            await peer.expect(f"{said.split()[0].upper()} #room")
            peer.say(*wrong, refused, *right)
            if said != "names":
                await pong(peer)
            assert await told == answer
        told = tasks.create_task(say("modes", relay, channel="#room"))
        await peer.expect("MODE #room")
        peer.say(":irc.test 324 trestle #secret +s", ":irc.test 324 trestle #room +n")
        await pong(peer)
        await peer.expect("MODE #room b")
        for name in ("#secret", "#room"):
            peer.say(f":irc.test 367 trestle {name} {name[1:]}!*@*")
            peer.say(f":irc.test 368 trestle {name} :End")
        assert await told == "#room has the modes +n. Banned: room!*@*."


async def test_a_value_that_the_server_does_not_take_is_told_in_its_words() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port)) as (relay, _, peer, _),
        asyncio.TaskGroup() as tasks,
    ):
        peer.pong = None
        told = tasks.create_task(refused("mode +l 20", relay, "#room"))
        await peer.expect("MODE #room +l 20")
        peer.say(":irc.test 696 trestle #room l 20 :At most 10")
        await pong(peer)
        assert await told == (
            "#room l 20: the mode's value is not accepted (the server: At most 10)"
        )


async def refused(said: str, relay: IrcClient, channel: str) -> str:
    """Give a command that is refused, in the channel's room; return why."""
    with pytest.raises(PermanentFailure) as refusal:
        await say(said, relay, channel=channel)
    return str(refusal.value)


async def pong(peer: Peer) -> None:
    """Answer the PING by which the client sees that all was worked through."""
    marker = (await peer.expect("PING ")).removeprefix("PING ")
    peer.say(f":irc.test PONG irc.test :{marker}")


async def test_no_pattern_is_longer_than_a_channels_name() -> None:
    network = Network(1)
    (relay, _), (puppet, _) = network.relay(), network.puppet("Ann")
    with pytest.raises(PermanentFailure, match="at most 200 bytes"):
        await say("list " + "*a" * 101, relay, puppet)
