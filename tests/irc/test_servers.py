"""The bridge against real IRC servers: two programs that agree on little."""

import re

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import (
    DeliveryError,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import (
    MessageKind,
    Rank,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRanks,
    RemoteRename,
)
from bridge.sdk.rich import Mention, Rich, Style, Styled, Text
from tests.irc.stage import Host, Network, chat, message, running
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer


async def listen(network: Network, channel: str, relay: IrcClient, host: Host) -> None:
    await host.wait_until_connected()
    await relay.join(chat(channel))
    await host.wait_for(RemoteMembers)


def tls(server: IrcServer, **changes: object) -> list[dict[str, object]]:
    known = {"host": "127.0.0.1", "port": server.tls_port, "ca_file": str(server.authority)}
    return [known | changes]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls_with_verification_connects(server: IrcServer, host: str) -> None:
    relay, told = Network(0, servers=tls(server, host=host), nick=f"tls_{len(host)}").relay()
    async with running(relay):
        await told.wait_until_connected()


async def test_a_certificate_of_an_unknown_issuer_is_refused(server: IrcServer) -> None:
    relay, host = Network(0, servers=tls(server, ca_file=None)).relay()
    async with running(relay) as run:
        error = await run.wait_for_error()
    assert isinstance(error, ModuleNotReady)
    assert re.search(r"certificate of 127.0.0.1:\d+ is not trusted.*ca_file", str(error))
    assert not host.states


async def test_without_verification_any_certificate_will_do(server: IrcServer) -> None:
    servers = tls(server, ca_file=None, tls_verify=False)
    relay, host = Network(0, servers=servers, nick="any_cert").relay()
    async with running(relay):
        await host.wait_until_connected()


async def test_tls_on_the_plain_port_is_explained(server: IrcServer) -> None:
    relay, _ = Network(0, servers=tls(server, port=server.port), connect_seconds=1).relay()
    async with running(relay) as run:
        error = await run.wait_for_error()
    assert isinstance(error, ModuleNotReady)
    assert str(server.port) in str(error)


async def test_the_next_server_is_tried_when_one_is_away(server: IrcServer) -> None:
    servers = [
        {"host": "127.0.0.1", "port": 1, "tls": False},
        {"host": "127.0.0.1", "port": server.port, "tls": False},
    ]
    relay, host = Network(0, servers=servers, nick="second").relay()
    async with running(relay):
        await host.wait_until_connected()


async def test_the_server_password_opens(locked_server: IrcServer) -> None:
    network = Network(locked_server.port, password="sesame")
    relay, host = network.relay()
    async with running(relay):
        await host.wait_until_connected()


async def test_a_wrong_server_password_asks_a_person(locked_server: IrcServer) -> None:
    relay, _ = Network(locked_server.port, password="wrong").relay()
    async with running(relay) as run:
        error = await run.wait_for_error()
    assert isinstance(error, LoginRequired)
    assert "wrong" not in str(error)


async def test_a_conversation_crosses_both_ways(server: IrcServer, channel: str) -> None:
    network = Network(server.port, nick="conv")
    (relay, heard), (alice, _) = network.relay(), network.puppet("Alice_C")
    async with irc_user(server.port, "conv_bob") as bob, running(relay, alice):
        await listen(network, channel, relay, heard)
        await bob.join(channel)
        body = Rich((Text("a "), Styled(Style.BOLD, (Text("bold"),)), Text(" word")))
        receipts = [
            await alice.send(message(channel, body)),
            await alice.send(message(channel, "waves", kind=MessageKind.EMOTE)),
            await alice.send(message(channel, "beware", kind=MessageKind.NOTICE)),
            await alice.send(message(channel, "one\n\ntwo :)\n: three")),
        ]
        assert (await bob.expect("PRIVMSG")).endswith(f"PRIVMSG {channel} :a \x02bold\x0f word")
        assert bob.heard[-1].startswith(":Alice_C!")
        assert (await bob.expect("ACTION")).endswith(f"PRIVMSG {channel} :\x01ACTION waves\x01")
        assert (await bob.expect("NOTICE")).endswith(f"NOTICE {channel} :beware")
        for text in ("one", "two :)", ": three"):
            assert (await bob.expect("PRIVMSG")).endswith(f"PRIVMSG {channel} :{text}")
        assert len({receipt.remote_ids for receipt in receipts}) == 4

        bob.say(f"PRIVMSG {channel} :hi \x02you\x02", f"PRIVMSG {channel} :\x01ACTION nods\x01")
        bob.say(f"NOTICE {channel} :note")
        said = await heard.wait_for(RemoteMessage, 3)
    assert heard.texts == ["conv_bob: hi you", "conv_bob: nods", "conv_bob: note"]
    assert [one.kind for one in said] == [
        MessageKind.TEXT, MessageKind.EMOTE, MessageKind.NOTICE
    ]  # fmt: skip
    assert said[0].body.nodes == (Text("hi "), Styled(Style.BOLD, (Text("you"),)))
    assert said[0].sender.id == "conv_bob"
    assert len({one.id for one in said}) == 3
    assert all(one.chat == chat(channel).id for one in said)


async def test_a_long_text_arrives_whole_and_cut_between_graphemes(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    text = "".join(f"{family}ä{number}e\u0301" for number in range(120))
    alice, _ = network.puppet("Alice_L")
    async with irc_user(server.port, "long_bob") as bob, running(alice):
        await bob.join(channel)
        await alice.send(message(channel, text))
        await alice.send(message(channel, "end"))
        await bob.expect(":end")
    lines = [line for line in bob.heard if "PRIVMSG" in line][:-1]
    parts = [line.split(" :", 1)[1] for line in lines]
    assert "".join(parts) == text
    assert len(parts) > 3
    assert all(len(line.encode()) <= 510 for line in lines)
    assert not any(part.startswith(("\u200d", "\u0301")) for part in parts)


async def test_formatting_opens_again_on_each_line(server: IrcServer, channel: str) -> None:
    network = Network(server.port)
    alice, _ = network.puppet("Alice_F")
    body = Rich((Styled(Style.BOLD, (Text("x" * 700),)),))
    async with irc_user(server.port, "form_bob") as bob, running(alice):
        await bob.join(channel)
        await alice.send(message(channel, body))
        first, second = await bob.expect("PRIVMSG"), await bob.expect("PRIVMSG")
    for line in (first, second):
        assert re.search(r" :\x02x+\x0f$", line)


async def test_people_are_followed(server: IrcServer, channel: str) -> None:
    network = Network(server.port, nick="follow")
    (relay, heard), (alice, _) = network.relay(), network.puppet("Alice_P")
    async with irc_user(server.port, "there") as there, running(relay, alice):
        await there.join(channel)
        await listen(network, channel, relay, heard)
        await alice.send(message(channel, "one of us"))
        async with irc_user(server.port, "Bob[1]") as bob:
            await bob.join(channel)
            bob.say("NICK Bobby", f"PART {channel} :off", f"JOIN {channel}")
            await bob.expect("366")
            there.say(f"KICK {channel} Bobby :out")
            await bob.expect("KICK")
            bob.say(f"JOIN {channel}")
            await bob.quit("bye")
        await heard.wait_for(RemoteLeave, 3)
    assert [user.name for user in heard.of(RemoteMembers)[0].users] == ["there"]
    assert [one.user.name for one in heard.of(RemoteJoin)] == ["Bob[1]", "Bobby", "Bobby"]
    rename = heard.of(RemoteRename)[0]
    assert (rename.old.name, rename.new.name, rename.new.id) == ("Bob[1]", "Bobby", "bobby")
    assert rename.old.id == ("bob{1}" if server.kind == "inspircd" else "bob[1]")
    leaves = heard.of(RemoteLeave)
    assert [one.user.id for one in leaves] == ["bobby"] * 3
    assert "off" in leaves[0].reason
    assert leaves[1].reason == "out"
    assert "bye" in leaves[2].reason


async def test_who_loses_the_higher_of_two_ranks_keeps_the_lower(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="ranker")
    relay, heard = network.relay()
    async with irc_user(server.port, "twice") as twice, running(relay):
        await twice.join(channel)
        twice.say(f"MODE {channel} +v twice")
        await twice.expect(f"MODE {channel} +v")
        await listen(network, channel, relay, heard)
        # The list of names has both, or the voice would be news to nobody (`multi-prefix`).
        (told,) = await heard.wait_for(RemoteRanks)
        assert told.ranks == {"twice": Rank.MODERATOR}
        twice.say(f"MODE {channel} -o twice")
        told = (await heard.wait_for(RemoteRanks, 2))[1]
        assert told.ranks == {"twice": Rank.VOICED}


async def test_a_nick_in_use_is_regained_when_it_is_free(server: IrcServer, channel: str) -> None:
    network = Network(server.port, nick="regain")
    (relay, heard), (carol, _) = network.relay(), network.puppet("Carol_R")
    async with irc_user(server.port, "watcher") as watcher, running(relay, carol):
        await listen(network, channel, relay, heard)
        await watcher.join(channel)
        async with irc_user(server.port, "carol_r") as stranger:
            await stranger.join(channel)
            await carol.send(message(channel, "I am second"))
            assert (await watcher.expect("I am second")).startswith(":Carol_R_!")
            await stranger.quit()
        assert (await watcher.expect("NICK")).startswith(":Carol_R_!")
        await carol.send(message(channel, "now it is mine"))
        assert (await watcher.expect("now it is mine")).startswith(":Carol_R!")
        watcher.say(f"PRIVMSG {channel} :done")
        await heard.wait_for(RemoteMessage)
    assert heard.texts == ["watcher: done"]
    assert {one.user.id for one in heard.of(RemoteJoin)} == {"watcher", "carol_r"}
    assert not heard.of(RemoteRename)


async def test_nicks_of_matrix_users_have_the_mark_of_the_settings(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="marks", puppet_nick="{name}[m]")
    (relay, heard), (dan, _) = network.relay(), network.puppet("Dan_K")
    async with irc_user(server.port, "looker") as looker, running(relay, dan):
        await listen(network, channel, relay, heard)
        await looker.join(channel)
        async with irc_user(server.port, "dan_k[m]") as stranger:
            await stranger.join(channel)
            await dan.send(message(channel, "I am second"))
            assert (await looker.expect("I am second")).startswith(":Dan_K_[m]!")
            await stranger.quit()
        assert (await looker.expect("NICK")).startswith(":Dan_K_[m]!")
        looker.say(f"PRIVMSG {channel} :dan_k[m]: hello")
        (said,) = await heard.wait_for(RemoteMessage)
    assert [one.user for one in said.body.nodes if isinstance(one, Mention)] == [
        "@dan_k:example.org"
    ]


async def forbid(user: IrcUser, channel: str, *modes: str) -> None:
    user.say(*(f"MODE {channel} {mode}" for mode in modes))
    await user.sync()


@pytest.mark.parametrize(
    ("mode", "reason", "kind"),
    [
        ("+b *!*@*", "banned", PermanentFailure),
        ("+i", "invited people only", PermanentFailure),
        ("+k secret", "needs a key", PermanentFailure),
        ("+l 1", "full", TemporaryFailure),
    ],
)
async def test_a_refused_join_tells_the_servers_reason(
    server: IrcServer, channel: str, mode: str, reason: str, kind: type[DeliveryError]
) -> None:
    network = Network(server.port, nick="refused")
    relay, host = network.relay()
    async with irc_user(server.port, "keeper") as keeper, running(relay):
        await keeper.join(channel)
        await forbid(keeper, channel, mode)
        await host.wait_until_connected()
        with pytest.raises(kind, match=f"{channel} cannot be joined: .*{reason}"):
            await relay.join(chat(channel))
        await forbid(keeper, channel, mode.replace("+", "-"))
        await relay.join(chat(channel))


async def test_a_name_that_is_no_channel_is_refused_by_the_server(server: IrcServer) -> None:
    relay, host = Network(server.port, nick="noname").relay()
    async with running(relay):
        await host.wait_until_connected()
        with pytest.raises(PermanentFailure, match="cannot be joined"):
            await relay.join(chat("#" + "x" * 100))


async def test_who_was_kicked_comes_back_with_the_next_message_unless_banned(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port)
    alice, _ = network.puppet("Alice_K")
    async with irc_user(server.port, "kicker") as kicker, running(alice):
        await kicker.join(channel)
        await alice.send(message(channel, "one"))
        await kicker.expect("one")
        kicker.say(f"KICK {channel} Alice_K")
        await kicker.wait_for_answer_of("Alice_K")
        await alice.send(message(channel, "two"))
        await kicker.expect("two")
        kicker.say(f"MODE {channel} +b Alice_K!*@*", f"KICK {channel} Alice_K")
        await kicker.sync()
        with pytest.raises(PermanentFailure, match=r"banned|does not let this user speak"):
            await alice.send(message(channel, "hello?"))


async def test_a_moderated_channel_refuses_each_message_until_it_does_not(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port)
    alice, _ = network.puppet("Alice_M")
    async with irc_user(server.port, "moderator") as moderator, running(alice):
        await moderator.join(channel)
        await forbid(moderator, channel, "+m")
        for _ in range(2):
            with pytest.raises(PermanentFailure, match="does not let this user speak"):
                await alice.send(message(channel, "without a voice"))
        moderator.say(f"MODE {channel} +v Alice_M")
        await moderator.sync()
        await alice.send(message(channel, "with a voice"))
        await moderator.expect("with a voice")
    assert not any("without a voice" in line for line in moderator.heard)


async def test_the_relay_comes_back_after_a_kick(server: IrcServer, channel: str) -> None:
    network = Network(server.port, nick="bouncer", rejoin_seconds=0.01)
    relay, heard = network.relay()
    async with irc_user(server.port, "ejector") as ejector, running(relay):
        await ejector.join(channel)
        await listen(network, channel, relay, heard)
        ejector.say(f"KICK {channel} bouncer :out")
        await ejector.expect("JOIN", "bouncer")
        await ejector.expect("JOIN", "bouncer")
        await heard.wait_for(RemoteMembers, 2)
        ejector.say(f"PRIVMSG {channel} :welcome back")
        await heard.wait_for(RemoteMessage)


async def test_stopping_says_quit_after_the_last_word(server: IrcServer, channel: str) -> None:
    network = Network(server.port)
    alice, _ = network.puppet("Alice_Q")
    async with irc_user(server.port, "witness") as witness:
        await witness.join(channel)
        async with running(alice):
            await alice.send(message(channel, "\n".join(f"line {n}" for n in range(30))))
        await witness.expect("line 29")
        assert "QUIT" in await witness.expect("Alice_Q")


async def test_a_relay_names_the_sender_on_every_line(server: IrcServer, channel: str) -> None:
    network = Network(server.port, nick="speaker", mode="relay")
    relay, host = network.relay()
    async with irc_user(server.port, "reader") as reader, running(relay):
        await reader.join(channel)
        await listen(network, channel, relay, host)
        await relay.send(message(channel, "one\n<root> two", sender="B<o>b\r\nX", relayed=True))
        assert (await reader.expect("PRIVMSG")).endswith(" :<Bob X> one")
        assert (await reader.expect("PRIVMSG")).endswith(" :<Bob X> <root> two")
        await relay.send(message(channel, "waves", kind=MessageKind.EMOTE, relayed=True))
        assert (await reader.expect("PRIVMSG")).endswith(" :* Alice waves")


async def test_after_the_connection_is_killed_everything_comes_back(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, nick="lazarus")
    relay, heard = network.relay()
    async with irc_user(server.port, "oper_k") as operator:
        operator.say(f"OPER {OPERATOR} {OPERATOR_PASSWORD}")
        await operator.expect(" 381 ")
        await operator.join(channel)
        async with running(relay) as run:
            await listen(network, channel, relay, heard)
            operator.say(f"PRIVMSG {channel} :before", "KILL lazarus :test")
            error = await run.wait_for_error()
        assert isinstance(error, ModuleNotReady)
        assert "closed the connection" in str(error)
        async with running(relay):
            await heard.wait_for(RemoteMembers, 2)
            operator.say(f"PRIVMSG {channel} :after")
            await heard.wait_for(RemoteMessage, 2)
    assert heard.texts == ["oper_k: before", "oper_k: after"]
