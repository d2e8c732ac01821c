"""Speaking in others' names, by ``draft/relaymsg`` and its examples; and stopping what is said."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.relaymsg import relay_nick
from bridge.networks.irc.wire import line
from bridge.sdk.events import MessageKind, RemoteMessage
from bridge.sdk.ids import EventId
from bridge.sdk.rich import Rich
from tests.irc.echoes import LABELS, ME, entered
from tests.irc.stage import Network, listening, message, running, synced
from tests.rigs.scale import examples
from tests.rigs.scripted_irc import scripted_server

RELAYS = "message-tags draft/relaymsg"


@examples(100)
@given(some.text(max_size=80), some.sampled_from(["/", "/|", ""]))
def test_any_name_is_one_that_the_server_can_take_and_nobody_can_have(
    name: str, separators: str
) -> None:
    made = relay_nick(name, separators, Isupport())
    assert not set("!+%@&#$:'\"?*,. ") & set(made.removesuffix("[m]"))
    assert made.endswith(("/m", "[m]"))
    assert line("RELAYMSG", "#c", made, "x").encode().count(b" ") == 3


async def test_the_relay_speaks_in_the_name_of_who_wrote_and_hears_nobody_in_it() -> None:
    async with scripted_server() as server:
        network = Network(server.port, mode="relay")
        async with (
            listening(server, network, capabilities=f"{RELAYS}=/") as (relay, host, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            sent = tasks.create_task(
                relay.send(message("#room", "one\ntwo", sender="Alice B.", relayed=True))
            )
            await peer.expect("RELAYMSG #room Alice_B/m :one")
            await peer.expect("RELAYMSG #room Alice_B/m :two")
            peer.say(
                "@draft/relaymsg={nick};msgid=1 :Alice_B/m!relay@irc.test PRIVMSG #room :one",
                "@draft/relaymsg=other;msgid=2 :Carl/d!relay@irc.test PRIVMSG #room :theirs",
            )
            await sent
            emote = message("#room", "waves", kind=MessageKind.EMOTE, relayed=True)
            await relay.send(emote)
            await peer.expect("RELAYMSG #room Alice/m :\x01ACTION waves\x01")
            (said,) = await host.wait_for(RemoteMessage)
            assert (said.sender.name, said.id) == ("Carl/d", "2")


@pytest.mark.parametrize(
    "refusal",
    [
        ":irc.test FAIL RELAYMSG PRIVS_NEEDED #room :You lack the privileges",
        ":irc.test 482 {nick} #room :You must be a channel operator",
        ":irc.test 573 {nick} Alice/m :Spoofed nickname is in use",
    ],
)
async def test_where_the_server_does_not_let_it_the_relay_names_who_wrote(refusal: str) -> None:
    async with scripted_server() as server:
        network = Network(server.port, mode="relay")
        async with (
            listening(server, network, capabilities=f"{RELAYS}=/") as (relay, _, peer, run),
            asyncio.TaskGroup() as tasks,
        ):
            peer.pong = None
            sent = tasks.create_task(relay.send(message("#room", "one", relayed=True)))
            await peer.expect("RELAYMSG #room Alice/m :one")
            marker = (await peer.expect("PING ")).removeprefix("PING ")
            peer.say(refusal, f":irc.test PONG irc.test :{marker}")
            peer.pong = ":irc.test PONG irc.test :{marker}"
            await peer.expect("PRIVMSG #room :<Alice> one")
            await sent
            await relay.send(message("#room", "two", relayed=True))
            await peer.expect("PRIVMSG #room :<Alice> two")
            await synced(peer)
            assert sum("RELAYMSG" in one for one in peer.heard) == 1
            peer.reset()
            await run.wait_for_error()
            # The next connection may be let.
            async with running(relay):
                again = await server.accept()
                await again.welcome(capabilities=f"{RELAYS}=/")
                await again.admit()
                sent = tasks.create_task(relay.send(message("#room", "three", relayed=True)))
                await again.expect("RELAYMSG #room Alice/m :three")
                await sent


async def test_where_the_settings_want_no_names_of_others_the_relay_names_who_wrote() -> None:
    async with scripted_server() as server:
        network = Network(server.port, mode="relay", relaymsg=False)
        async with listening(server, network, capabilities=f"{RELAYS}=/") as (relay, _, peer, _):
            await relay.send(message("#room", "one", relayed=True))
            await peer.expect("PRIVMSG #room :<Alice> one")


@pytest.mark.parametrize("capabilities", ["", LABELS, f"{LABELS} draft/multiline=max-bytes=4000"])
async def test_a_paste_is_stopped_after_the_lines_that_are_out(capabilities: str) -> None:
    async with entered(capabilities, flood_burst=3, flood_rate=1) as (alice, peer, _, _):
        lines = Rich.plain("\n".join(f"line {number}" for number in range(20)))
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(alice.send(message("#room", lines)))
            await peer.expect("@label" if capabilities else "PRIVMSG")
            assert alice.stop_sending(EventId("$event"))
            assert not alice.stop_sending(EventId("$event"))
            await synced(peer)
            out = [one for one in peer.heard if " :line " in one]
            assert [one[-6:] for one in out] == [f"line {number}" for number in range(len(out))]
            assert len(out) < 4
            for one in out if capabilities else ():
                tags, _, said = one.partition(" ")
                peer.say(f"{tags} {ME} {said}")
            assert len((await sent).remote_ids) in {1, len(out)}
            assert not alice.stop_sending(EventId("$event"))
            again = tasks.create_task(alice.send(message("#room", "well")))
            assert (await peer.expect("@label" if capabilities else "PRIVMSG")).endswith(":well")
            again.cancel()
