"""Nicks in what is said on IRC."""

from collections.abc import Sequence
from typing import Any

import pytest

from bridge.networks.irc.messages.mentions import MOST, Where, with_mentions
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.sdk.events import RemoteMessage
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.rich import LineBreak, Link, Mention, Rich, Style, Styled, Text
from tests.irc.stage import Network, a_listener, listening, message, speaking, synced, user_id
from tests.rigs.scripted_irc import scripted_server

PEOPLE = {
    nick.lower(): Mention(UserId(""), nick, RemoteUserId(nick.lower()))
    for nick in ("Alice", "bob[m]", "it", "carl", "Zoë", "[Dan]")
}


def find(nick: str) -> Mention | None:
    """Somebody in the channel, whatever the case."""
    return PEOPLE.get(nick.lower())


def is_among(words: Sequence[str]) -> bool:
    """Whether one of them is in the channel."""
    return any(find(word) for word in words)


def marked(rich: Rich) -> str:
    """Write mentions in angle brackets."""
    return "".join(
        f"<{node.name}>" if isinstance(node, Mention) else node.text
        for node in rich.nodes
        if isinstance(node, Mention | Text)
    )


@pytest.mark.parametrize(
    ("text", "anywhere", "start"),
    [
        ("Alice: hello", "<Alice>: hello", "<Alice>: hello"),
        ("alice, hello", "<Alice>, hello", "<Alice>, hello"),
        ("ALICE", "<Alice>", "<Alice>"),
        (" alice ", " <Alice> ", " <Alice> "),
        ("it: yes", "<it>: yes", "<it>: yes"),
        ("it is late", "it is late", "it is late"),
        ("carl hello", "<carl> hello", "<carl> hello"),
        ("Carl me an ambulance", "Carl me an ambulance", "Carl me an ambulance"),
        ("ask Alice, or bob[m]!", "ask <Alice>, or <bob[m]>!", "ask Alice, or bob[m]!"),
        ("(Alice's cat)", "(<Alice>'s cat)", "(Alice's cat)"),
        ("is it alice or Malice", "is it alice or Malice", "is it alice or Malice"),
        ("@Alice: hello", "@<Alice>: hello", "@<Alice>: hello"),
        ("@alice hello", "@<Alice> hello", "@<Alice> hello"),
        ("@it: yes", "@<it>: yes", "@<it>: yes"),
        ("ask @Alice (@bob[m])", "ask @<Alice> (@<bob[m]>)", ""),
        ("ask @alice", "ask @alice", ""),
        ("a@Alice @@Alice #@Alice", "a@Alice @@Alice #@Alice", ""),
        ("@Alice@example.org @Alice:example.org", "@Alice@example.org @Alice:example.org", ""),
        ("Alice@example.org", "Alice@example.org", ""),
        ("Alice-like #Alice x/Alice", "Alice-like #Alice x/Alice", ""),
        ("see https://Alice/Alice now", "see https://Alice/Alice now", ""),
        ("https://x.example/?q=Alice&b", "https://x.example/?q=Alice&b", ""),
        ("Alicelle Alice9 Aliceö", "Alicelle Alice9 Aliceö", ""),
        ("Alice.", "<Alice>.", "Alice."),
        ("zoë: hello", "<Zoë>: hello", "<Zoë>: hello"),
        ("ask Zoë, not Zoëlle", "ask <Zoë>, not Zoëlle", ""),
        ("[Dan]: hello", "<[Dan]>: hello", "<[Dan]>: hello"),
        ("hi [Dan], [[Dan]]", "hi <[Dan]>, [<[Dan]>]", ""),
        ("[ask Alice] {Alice} [bob[m]]", "[ask <Alice>] {<Alice>} [<bob[m]>]", ""),
        ("[Alice]: hello", "[<Alice>]: hello", "[Alice]: hello"),
        ("Dan [alice] [Malice]", "Dan [alice] [Malice]", ""),
        ("  Alice: indented", "  <Alice>: indented", "  <Alice>: indented"),
    ],
)
def test_a_nick_is_a_mention_where_it_is_meant(text: str, anywhere: str, start: str) -> None:
    expected: list[tuple[Where, str]] = [
        ("anywhere", anywhere), ("start", start or text), ("nowhere", text)
    ]  # fmt: skip
    for where, wanted in expected:
        found = with_mentions(Rich.plain(text), find, where, is_among)
        assert marked(found) == wanted


def test_code_and_links_are_left_alone_and_nobody_calls_a_whole_channel() -> None:
    code = Styled(Style.MONO, (Text("Alice"),))
    link = Link("https://example.org/", (Text("Alice"),))
    bold = Styled(Style.BOLD, (Text("Alice"),))
    rich = Rich((code, LineBreak(), link, bold))
    found = with_mentions(rich, find, "anywhere", is_among)
    called = Styled(Style.BOLD, (PEOPLE["alice"],))
    assert found.nodes == (code, LineBreak(), link, called)
    many = with_mentions(Rich.plain("Alice carl " * 10), find, "anywhere", is_among)
    assert sum(isinstance(node, Mention) for node in many.nodes) == MOST


def test_a_first_word_in_another_type_is_not_all_that_is_said() -> None:
    bold, called = Styled(Style.BOLD, (Text("it"),)), Styled(Style.BOLD, (PEOPLE["it"],))
    late = (bold, Text(" is late"))
    assert with_mentions(Rich(late), find, "anywhere", is_among).nodes == late
    assert with_mentions(Rich((bold,)), find, "anywhere", is_among).nodes == (called,)


async def test_in_a_channel_a_nick_is_found_as_the_network_folds_it() -> None:
    async with a_listener("B[ob carl") as (_, host, peer, _):
        for text in ("b{OB: hello", "ask B[ob", "ask b{ob", "b]ob: who?", "nobody"):
            peer.say(f":carl!c@h PRIVMSG #room :{text}")
        await host.wait_for(RemoteMessage, 5)
        marks = [marked(one.body) for one in host.of(RemoteMessage)]
    assert marks == ["<B[ob>: hello", "ask <B[ob>", "ask b{ob", "b]ob: who?", "nobody"]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("anywhere", ["<bob>: hi", "ask <bob>"]), ("start", ["<bob>: hi", "ask bob"]),
        ("nowhere", ["bob: hi", "ask bob"]),
    ],
)  # fmt: skip
async def test_the_settings_say_where_a_nick_is_a_mention(where: str, found: list[str]) -> None:
    async with scripted_server() as server:
        network = Network(server.port, mentions=where)
        async with listening(server, network, "bob carl") as (_, host, peer, _):
            peer.say(*(f":carl!c@h PRIVMSG #room :{text}" for text in ("bob: hi", "ask bob")))
            await host.wait_for(RemoteMessage, 2)
            assert [marked(one.body) for one in host.of(RemoteMessage)] == found


async def test_a_mention_is_the_nick_that_the_person_has_and_not_what_its_link_shows() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network, "Alice") as (alice, _, peer, _),
            speaking(server, network, "Bob") as (_, _, bobs, _),
        ):
            bobs.say(":Bob!bob@client.test NICK Bobby")
            await synced(bobs)
            eve = Mention(UserId("@_trestle_eve:hs"), "carl", RemoteUserId("eve"))
            bob = Mention(user_id("Bob"), "the boss")
            await alice.send(message("#room", Rich((eve, Text(" and "), bob))))
            await peer.expect("PRIVMSG #room :eve and Bobby")
            # Spelled as people write it, where that is the same nick.
            carl = Mention(UserId("@_trestle_ca{l:hs"), "Ca[l", RemoteUserId("ca{l"))
            await alice.send(message("#room", Rich((carl,))))
            await peer.expect("PRIVMSG #room :Ca[l")


async def test_no_word_of_what_is_said_stays_in_memory_for_having_been_looked_at() -> None:
    async with a_listener("bob carl") as (_, host, peer, _):
        # All connections have this one.
        fold: Any = Isupport({"CASEMAPPING": "rfc1459"}).fold
        for text in ("a sëcret, bob", "another Géheimnis"):
            peer.say(f":carl!c@h PRIVMSG #room :{text}")
        await host.wait_for(RemoteMessage, 2)
        hits = fold.cache_info().hits
        for said in ("a sëcret bob", "sëcret", "another Géheimnis", "Géheimnis", "géheimnis"):
            fold(said)
        assert fold.cache_info().hits == hits
