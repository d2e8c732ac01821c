"""Channels with a key (``+k``), on real servers: said, kept, learnt, forgotten."""

import asyncio
import re

import pytest

from bridge.networks.irc.network.keys import PREFIX, Keyring, read_key
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.replies import join_refusal
from bridge.networks.irc.wire import parse
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteAccess, RemoteMessage
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.secret import Secret
from tests.irc.commands import say
from tests.irc.stage import Host, Network, chat, message, running, synced
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.scripted_irc import scripted_server

SESAME = Secret("sesame")


async def lock(user: IrcUser, channel: str, key: str = "sesame") -> None:
    """Have the channel, and a key on it."""
    await user.join(channel)
    user.say(f"MODE {channel} +k {key}")
    await user.expect(f"MODE {channel} ")


def kept(host: Host, channel: str) -> Secret | None:
    return host.kept.get(PREFIX + channel.lower())


async def wait_for_key(host: Host, channel: str, key: str | None) -> None:
    """Wait until the relay's login keeps that key, or none."""
    wanted = None if key is None else Secret(key)
    await host.wait_until(lambda one: kept(one, channel) == wanted)


async def test_a_key_lets_the_relay_in_and_everybody_after_it(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="keyed")
    (relay, host), (alice, _) = network.relay(), network.puppet("Alice_Key")
    async with irc_user(server.port, "keyowner") as owner, running(relay, alice):
        await lock(owner, channel)
        await host.wait_until_connected()
        with pytest.raises(PermanentFailure, match="needs a key"):
            await relay.join_with_key(chat(channel), Secret("wrong"))
        assert kept(host, channel) is None
        await relay.join_with_key(chat(channel), SESAME)
        assert kept(host, channel) == SESAME
        await alice.send(message(channel, "let in by it"))
        await owner.expect(f"PRIVMSG {channel} :let in by it")
        with pytest.raises(PermanentFailure, match="no channel's key"):
            await relay.join_with_key(chat(channel), Secret("a,b"))
        assert kept(host, channel) == SESAME


async def test_a_key_outlives_the_program_and_is_forgotten_with_the_channel(
    server: IrcServer, channel: str
) -> None:
    async with irc_user(server.port, "keykeeper") as owner:
        await lock(owner, channel)
        relay, host = Network(server.port, nick="keyedone").relay()
        async with running(relay):
            await host.wait_until_connected()
            await relay.join_with_key(chat(channel), SESAME)
        again, after = Network(server.port, nick="keyedtwo").relay(host.kept)
        async with running(again):
            await after.wait_until_connected()
            await again.join(chat(channel))
            owner.say(f"PRIVMSG {channel} :there you are")
            await after.wait_for(RemoteMessage)
            await again.leave(chat(channel), "done")
            assert after.kept == {}
            with pytest.raises(PermanentFailure, match="needs a key"):
                await again.join(chat(channel))


async def test_a_key_that_is_changed_in_the_channel_is_learnt_and_one_that_is_taken_forgotten(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="learner", rejoin_seconds=0.01)
    (relay, host), (alice, _) = network.relay(), network.puppet("Alice_Learns")
    async with irc_user(server.port, "keychanger") as owner, running(relay, alice):
        await owner.join(channel)
        await host.wait_until_connected()
        await relay.join(chat(channel))
        await host.wait_for(RemoteAccess)
        owner.say(f"MODE {channel} +k first")
        await wait_for_key(host, channel, "first")
        owner.say(f"MODE {channel} -k first", f"MODE {channel} +k second")
        await wait_for_key(host, channel, "second")
        await alice.send(message(channel, "by the second"))
        await owner.expect(f"PRIVMSG {channel} :by the second")
        owner.say(f"KICK {channel} learner :out and in")
        await owner.expect("KICK", "learner")
        await owner.expect("JOIN", "learner")
        owner.say(f"MODE {channel} -k second")
        await wait_for_key(host, channel, None)


async def test_who_comes_into_a_channel_that_has_no_key_any_more_forgets_it(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="nolonger")
    relay, host = network.relay({PREFIX + channel.lower(): SESAME})
    async with irc_user(server.port, "unlocker") as owner, running(relay):
        await owner.join(channel)
        await host.wait_until_connected()
        await relay.join(chat(channel))
        await wait_for_key(host, channel, None)


async def test_a_channel_that_is_empty_when_the_relay_comes_is_locked_by_the_key_that_is_kept(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="firstin")
    relay, host = network.relay({PREFIX + channel.lower(): SESAME})
    async with irc_user(server.port, "latecomer") as late, running(relay):
        await host.wait_until_connected()
        await relay.join(chat(channel))
        await host.wait_until(lambda one: any(not access.open for access in one.of(RemoteAccess)))
        late.say(f"JOIN {channel}")
        await late.expect(f" 475 latecomer {channel} ")
        late.say(f"JOIN {channel} sesame")
        await late.expect("JOIN", channel)
        assert kept(host, channel) == SESAME


async def test_a_channel_that_is_empty_when_a_person_comes_is_locked_by_the_key_that_is_kept(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="secondin")
    relay, host = network.relay({PREFIX + channel.lower(): SESAME})
    async with running(relay):
        await host.wait_until_connected()
    again, after = network.relay(host.kept)
    alice, _ = network.puppet("Alice_First")
    async with irc_user(server.port, "latecomer") as late, running(alice):
        for text in ("makes it", "has locked it"):
            await alice.send(message(channel, text))
        late.say(f"JOIN {channel}")
        await late.expect(" 475 latecomer ")
        async with running(again):
            await after.wait_until_connected()
            await again.join(chat(channel))
            await after.wait_until(
                lambda one: any(not access.open for access in one.of(RemoteAccess))
            )
            assert kept(after, channel) == SESAME


@pytest.mark.parametrize(
    ("is_kept", "names", "is_locked"),
    [
        pytest.param(True, ["@{nick}"], True, id="kept"),
        pytest.param(False, ["@{nick}"], False, id="offered"),
        pytest.param(True, ["{nick}"], False, id="no rank"),
        pytest.param(True, ["@{nick} eve"], False, id="others"),
        pytest.param(True, ["@{nick}", "eve"], False, id="others later"),
        pytest.param(True, [], False, id="untold"),
    ],
)
async def test_a_person_locks_only_what_is_the_own_channel_and_had_a_key_before(
    is_kept: bool, names: list[str], is_locked: bool
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        keys = network.connector._network.keys
        alice, _ = network.puppet("Alice")
        with keys.offering(RemoteChatId("#room"), SESAME):
            if is_kept:
                keys.hear(RemoteChatId("#room"), "sesame")
            async with running(alice), asyncio.TaskGroup() as tasks:
                tasks.create_task(alice.send(message("#room", "hello")))
                peer = await server.accept()
                await peer.welcome()
                await peer.expect("JOIN #room sesame")
                listed = [f":irc.test 353 {{nick}} = #room :{one}" for one in names]
                peer.say(
                    ":{nick}!{nick}@client.test JOIN #room", *listed,
                    ":irc.test 366 {nick} #room :End of names",
                )  # fmt: skip
                await synced(peer)
                assert ("MODE #room +k sesame" in peer.heard) == is_locked


async def test_a_key_that_is_said_in_an_open_channel_closes_it_to_nobody_who_asks_for_its_modes(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="wasfirst")
    relay, host = network.relay()
    async with irc_user(server.port, "guest") as guest, running(relay):
        await host.wait_until_connected()
        await relay.join(chat(channel))
        await host.wait_for(RemoteAccess)
        await guest.join(channel)
        await relay.join_with_key(chat(channel), SESAME)
        assert kept(host, channel) == SESAME
        for _ in range(2):  # What the first might set, the second is told of.
            modes = await say("modes", relay, channel=channel)
            assert not re.search(r"\+\w*k", modes)


@pytest.mark.parametrize(
    ("kept_before", "names", "is_locked"),
    [
        pytest.param(True, [":irc.test 353 {nick} = #room :@{nick}"], True, id="kept"),
        pytest.param(False, [":irc.test 353 {nick} = #room :@{nick}"], False, id="offered"),
        pytest.param(True, [":irc.test 353 {nick} = #room :@{nick} eve"], False, id="others"),
        pytest.param(True, [], False, id="untold"),
    ],
)
async def test_only_a_channel_of_which_it_is_told_that_nobody_was_there_gets_what_was_kept_before(
    kept_before: bool, names: list[str], is_locked: bool
) -> None:
    async with scripted_server() as server:
        before = {PREFIX + "#room": SESAME} if kept_before else None
        relay, host = Network(server.port).relay(before)
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome()
            room = chat("#room")
            joined = tasks.create_task(
                relay.join(room) if kept_before else relay.join_with_key(room, SESAME)
            )
            await peer.expect("JOIN #room sesame")
            peer.say(
                ":{nick}!{nick}@client.test JOIN #room", *names,
                ":irc.test 366 {nick} #room :End of names", ":irc.test MODE #room +o {nick}",
                ":irc.test 324 {nick} #room +nt",
            )  # fmt: skip
            await joined
            await host.wait_for(RemoteAccess)
            await synced(peer)
            assert ("MODE #room +k sesame" in peer.heard) == is_locked


async def test_channels_with_and_without_a_key_are_joined_in_one_line(
    server: IrcServer, channel: str
) -> None:
    names = [f"{channel}{number}" for number in range(4)]
    locked = {PREFIX + one.lower(): Secret(f"key-{one[1:]}") for one in names[1::2]}
    network = Network(server.port, nick="many")
    relay, host = network.relay(locked)
    async with irc_user(server.port, "manykeys") as owner, running(relay):
        for name in names[::2]:
            await owner.join(name)
        for name in names[1::2]:
            await lock(owner, name, f"key-{name[1:]}")
        await host.wait_until_connected()
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(relay.join(chat(name)))
        assert relay.link.channels is not None
        assert relay.link.channels.names == sorted(one.lower() for one in names)
    async with scripted_server() as scripted:
        again, _ = Network(scripted.port).relay(locked)
        async with running(again), asyncio.TaskGroup() as tasks:
            peer = await scripted.accept()
            for name in names:
                tasks.create_task(again.join(chat(name)))
            await peer.welcome()
            # A key is that of the channel at its place: those that have one come first.
            said = (await peer.expect("JOIN ")).split()
            assert sorted(said[1].split(",")) == sorted(names)
            assert said[1].split(",")[:2] == names[1::2]
            assert said[2] == ",".join(f"key-{one[1:]}" for one in names[1::2])
            for name in names:
                peer.say(f":{{nick}}!t@h JOIN {name}", f":irc.test 366 {{nick}} {name} :End")


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        ("+i", "Have somebody who runs it say /invite wayless {channel}"),
        ("+b *!*@*", "Somebody who runs it can lift the ban"),
        ("+k other", "Say the key after the channel's name"),
    ],
)
async def test_a_closed_channel_tells_the_way_in(
    server: IrcServer, channel: str, mode: str, way: str
) -> None:
    relay, host = Network(server.port, nick="wayless").relay()
    async with irc_user(server.port, "closer") as owner, running(relay):
        await owner.join(channel)
        owner.say(f"MODE {channel} {mode}")
        await owner.sync()
        await host.wait_until_connected()
        with pytest.raises(PermanentFailure) as refused:
            await relay.join(chat(channel))
    assert way.format(channel=channel) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "two words", "a,b", ":colon", "line\nbreak", "\0", "x" * 101]
)
def test_what_is_no_key_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(PermanentFailure) as refused:
        read_key(text, Isupport())
    assert not text or text not in str(refused.value)


def test_a_key_is_as_long_as_the_network_takes() -> None:
    limits = Isupport().with_tokens(["KEYLEN=4"])
    assert read_key("door", limits) == Secret("door")
    with pytest.raises(PermanentFailure, match="at most 4 bytes"):
        read_key("doors", limits)


async def test_what_could_not_be_stored_holds_and_is_stored_later() -> None:
    network = Network(0)
    relay, host = network.relay()
    keys: Keyring = relay.network.keys
    room = chat("#later").id
    host.refusals = [TemporaryFailure("The database is away.")]
    with pytest.raises(TemporaryFailure):
        await keys.keep(room, SESAME)
    assert keys.find(room) == SESAME
    assert not host.kept
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(keys.behind.keep_writing())
        await wait_for_key(host, "#later", "sesame")
        writing.cancel()


@pytest.mark.parametrize("shown", ["*", "<key>", "a,b", ""])
def test_what_a_server_shows_instead_of_a_key_is_not_taken_for_it(shown: str) -> None:
    keys, room = Keyring(), chat("#hidden").id
    keys.hear(room, "sesame")
    keys.hear(room, shown)
    assert keys.find(room) == SESAME


def test_who_needs_an_account_is_told_where_to_get_one() -> None:
    raw = b":irc.test 477 trestle #club :You need to identify to a registered nick"
    reply = parse(raw)
    assert reply is not None
    refused = join_refusal(reply, "#club", account="Get one")
    assert str(refused).endswith("a registered nick). Get one")
