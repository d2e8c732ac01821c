"""Names by which one connection speaks for people: they call nobody, and can be called."""

import pytest

from bridge.networks.irc.messages.mentions import without_nicks
from bridge.sdk.events import MessageKind, RemoteMessage
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.rich import Mention, Rich, Text
from bridge.sdk.text import to_plain
from tests.irc.stage import Host, Network, a_listener, chat, message, running, until, user_id
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer

SIGN = "\u200b"


def shown(rich: Rich) -> str:
    """Write mentions with whom they mean."""
    return "".join(
        f"({node.user or node.remote})" if isinstance(node, Mention) else to_plain(Rich((node,)))
        for node in rich.nodes
    )


@pytest.mark.parametrize(
    ("name", "quiet"),
    [
        ("carl", "c|arl"), ("CARL", "C|ARL"), ("carla", "carla"), ("dora", "dora"),
        ("Carl Smith", "C|arl Smith"), ("Smith (carl)", "Smith (c|arl)"),
        ("@carl:hs", "@c|arl:hs"), ("carl[m]", "c|arl[m]"), ("carl-away", "c|arl-away"),
        ("x", "x"), ("[bob]", "[|bob]"),
        ("😀 carl", "😀 c|arl"), ("", ""),
    ],
)  # fmt: skip
def test_what_is_a_nick_in_a_name_is_none_with_the_sign(name: str, quiet: str) -> None:
    def is_nick(word: str) -> bool:
        return word.lower() in {"carl", "x", "[bob]"}

    assert without_nicks(name, is_nick) == quiet.replace("|", SIGN)


async def test_a_name_calls_nobody_who_has_it_as_a_nick_and_can_be_called_as_it_stands_there(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, mode="relay")
    relay, host = network.relay()
    async with (
        irc_user(server.port, "carl") as carl, irc_user(server.port, "dan") as dan, running(relay),
    ):  # fmt: skip
        await carl.join(channel)
        await dan.join(channel)
        await relay.join(chat(channel))
        await until(lambda: network.connector._network.find_person("carl") is not None)
        await relay.send(message(channel, "one", sender="Carl", relayed=True))
        await carl.expect(f"PRIVMSG {channel} :<C{SIGN}arl> one")
        waves = message(channel, "waves", sender="Carl", kind=MessageKind.EMOTE, relayed=True)
        await relay.send(waves)
        await carl.expect(f"PRIVMSG {channel} :* C{SIGN}arl waves")
        await relay.send(message(channel, "two", sender="Dora", relayed=True))
        await carl.expect(f"PRIVMSG {channel} :<Dora> two")

        carl.say(
            f"PRIVMSG {channel} :C{SIGN}arl: copied", f"PRIVMSG {channel} :carl, is my own nick",
            f"PRIVMSG {channel} :ask dora: or Dora", f"PRIVMSG {channel} :dora: yes",
        )  # fmt: skip
        await host.wait_for(RemoteMessage, 4)
        assert [shown(one.body) for one in host.of(RemoteMessage)] == [
            "(@carl:example.org): copied", "(carl), is my own nick",
            "ask dora: or (@dora:example.org)", "(@dora:example.org): yes",
        ]  # fmt: skip

        await carl.quit()
        await until(lambda: network.connector._network.find_person("carl") is None)
        await relay.send(message(channel, "three", sender="Carl", relayed=True))
        await dan.expect(f"PRIVMSG {channel} :<Carl> three")


async def test_a_name_of_several_words_is_called_at_the_start_as_it_is_spelled() -> None:
    async with a_listener("bob carl") as (relay, host, peer, _):
        await relay.send(message("#room", "one", sender="Carl B. Smith", relayed=True))
        name, smith = f"C{SIGN}arl B. Smith", "(@carl b. smith:example.org)"
        assert await peer.expect("PRIVMSG") == f"PRIVMSG #room :<{name}> one"
        told = {
            "Carl B. Smith: ask bob": f"{smith}: ask (bob)",
            f"{name}, hi": f"{smith}, hi",
            "carl b. smith: hi": "(carl) b. smith: hi",
            "Carl B. Smithson: hi": "Carl B. Smithson: hi",
            "so Carl B. Smith: hi": "so Carl B. Smith: hi",
            "Carl B. Smith said: hi": "Carl B. Smith said: hi",
        }
        peer.say(*(f":bob!b@h PRIVMSG #room :{said}" for said in told))
        assert await heard(host, len(told)) == list(told.values())


async def test_names_stay_as_they_are_where_that_is_set() -> None:
    async with a_listener("carl", quiet_names=False) as (relay, _, peer, _):
        await relay.send(message("#room", "one", sender="carl", relayed=True))
        assert await peer.expect("PRIVMSG") == "PRIVMSG #room :<carl> one"


async def heard(host: Host, number: int) -> list[str]:
    """What was said in the channel, so many messages."""
    return [shown(one.body) for one in await host.wait_for(RemoteMessage, number)]


async def test_who_is_forgotten_or_spoke_long_ago_is_not_found_by_the_name() -> None:
    async with a_listener("bob") as (relay, host, peer, _):
        network = relay.network
        for number in range(201):
            await relay.send(message("#room", "hi", sender=f"eve{number}", relayed=True))
        peer.say(*(f":bob!b@h PRIVMSG #room :eve{one}: hi" for one in (0, 1, 200)))
        assert await heard(host, 3) == [
            "eve0: hi", "(@eve1:example.org): hi", "(@eve200:example.org): hi",
        ]  # fmt: skip
        await network.forget(user_id("eve1"))
        peer.say(":bob!b@h PRIVMSG #room :eve1: hi")
        assert (await heard(host, 4))[-1] == "eve1: hi"
        network.forget_chat(RemoteChatId("#room"))
        peer.say(":bob!b@h PRIVMSG #room :eve200: hi")
        assert (await heard(host, 5))[-1] == "eve200: hi"


async def test_words_that_have_such_a_sign_between_them_are_words() -> None:
    async with a_listener("bob carl") as (_, host, peer, _):
        peer.say(f":carl!c@h PRIVMSG #room :ask{SIGN}bob{SIGN}now", ":carl!c@h PRIVMSG #room :x")
        await host.wait_for(RemoteMessage, 2)
        first = host.of(RemoteMessage)[0].body
        assert shown(first) == f"ask{SIGN}(bob){SIGN}now"
        assert first.nodes[0] == Text(f"ask{SIGN}")
