"""What a server offers: asked for as it comes, given up as it goes."""

import asyncio
from dataclasses import replace

import pytest

from bridge.networks.irc.network.people import People
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.offers import WANTED, Offers
from bridge.networks.irc.wire import Source
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import RemoteJoin, RemoteLeave, RemoteRemark
from bridge.sdk.ids import RemoteMessageId
from tests.irc.echoes import LABELS, entered, labelled, outcome
from tests.irc.handshakes import begin, feed, identity, sasl
from tests.irc.lines import incoming
from tests.irc.loops import SkippingLoop, run_skipping
from tests.irc.stage import Network, chat, listening, message, synced
from tests.rigs.scripted_irc import scripted_server


def said(offers: Offers, text: str) -> list[str]:
    return [one.encode().decode().strip() for one in offers.follow(incoming(text))]


PROMISED = (
    "server-time message-tags echo-message labeled-response batch account-tag account-notify "
    "extended-join away-notify chghost setname multi-prefix userhost-in-names invite-notify "
    "cap-notify draft/chathistory draft/event-playback draft/multiline draft/message-redaction "
    "draft/relaymsg extended-monitor standard-replies"
)
"""What docs/reference/irc.md says that we use, written out: so none of it is lost unnoticed."""


def test_each_capability_that_we_say_we_use_is_asked_for() -> None:
    offers = Offers()
    offers.learn(PROMISED)
    asked = " ".join(one.params[1] for one in offers.wish())
    assert sorted(asked.split()) == sorted(PROMISED.split())


def test_all_that_is_wanted_is_asked_for_in_lines_that_fit() -> None:
    offers = Offers()
    offers.learn(" ".join(WANTED) + " example.org/other sts=port=1")
    requests = offers.wish(["sasl"])
    asked = [name for one in requests for name in one.params[1].split()]
    assert sorted(asked) == sorted(WANTED | {"sasl"})
    assert all(len(one.encode()) <= 512 for one in requests)


def test_what_means_nothing_alone_is_not_asked_for() -> None:
    offers = Offers()
    offers.learn("labeled-response draft/multiline=max-bytes=1 draft/chathistory")
    assert offers.wish() == []


def test_capabilities_come_and_go() -> None:
    offers = Offers()
    offers.learn("server-time cap-notify")
    offers.take("server-time cap-notify")
    # The specification's own examples.
    assert said(offers, ":irc.example.com CAP modernclient NEW :batch") == ["CAP REQ batch"]
    assert said(offers, ":irc.example.com CAP modernclient ACK :batch") == []
    assert offers.held == {"server-time", "cap-notify", "batch"}
    assert said(offers, ":irc.example.com CAP modernclient NEW :example.org/x server-time") == []
    assert said(offers, ":irc.example.com CAP modernclient DEL :batch server-time") == []
    assert offers.held == {"cap-notify"}
    assert "batch" not in offers.values
    offers.take("-cap-notify")
    assert offers.held == frozenset()


def test_with_what_goes_all_goes_that_means_nothing_without_it() -> None:
    offers = Offers()
    names = "batch message-tags draft/chathistory draft/event-playback draft/multiline"
    offers.learn(names)
    offers.take(names)
    assert said(offers, ":s CAP me DEL :batch") == []
    assert offers.held == {"message-tags"}
    # What is still offered is asked for with it again.
    assert said(offers, ":s CAP me NEW :batch") == [
        "CAP REQ :batch draft/chathistory draft/event-playback draft/multiline"
    ]


def test_what_comes_and_goes_while_we_sign_in_is_followed_too() -> None:
    handshake, _ = begin(identity())
    feed(handshake, ":s CAP * LS :batch echo-message server-time")
    feed(handshake, ":s CAP * ACK :batch echo-message server-time")
    assert feed(handshake, ":s CAP * DEL :batch", ":s CAP * NEW :message-tags") == []
    assert handshake.offers.held == {"echo-message", "server-time"}
    feed(handshake, ":s 001 bob :Hi")
    assert feed(handshake, ":s CAP bob DEL :echo-message") == []
    assert feed(handshake, ":s CAP bob NEW :batch") == ["CAP REQ :batch message-tags"]
    assert feed(handshake, ":s CAP bob ACK :batch message-tags") == []
    assert handshake.offers.held == {"batch", "message-tags", "server-time"}


def test_a_list_too_long_for_one_request_is_asked_for_in_two() -> None:
    handshake, _ = begin(identity())
    names = sorted(WANTED)
    assert feed(handshake, f":s CAP * LS * :{' '.join(names[:9])}") == []
    first, second = feed(handshake, f":s CAP * LS :{' '.join(names[9:])}")
    assert feed(handshake, f":s CAP * ACK {first.removeprefix('CAP REQ ')}") == []
    # For the sake of one the server refuses all of a line: so each is asked for by itself.
    others = second.removeprefix("CAP REQ :").split()
    assert feed(handshake, f":s CAP * NAK :{' '.join(others)}") == [
        f"CAP REQ {one}" for one in others
    ]
    for one in others[1:]:
        assert feed(handshake, f":s CAP * ACK {one}") == []
    assert feed(handshake, f":s CAP * NAK {others[0]}") == ["CAP END"]
    assert handshake.offers.held == set(names) - {others[0]}


def test_of_what_is_offered_later_and_refused_together_each_is_asked_for_by_itself() -> None:
    offers = Offers()
    assert said(offers, ":s CAP me NEW :batch setname") == ["CAP REQ :batch setname"]
    assert said(offers, ":s CAP me NAK :batch setname") == ["CAP REQ batch", "CAP REQ setname"]
    assert said(offers, ":s CAP me NAK :setname") == []
    assert said(offers, ":s CAP me NAK :nothing that was offered") == []


def test_what_is_given_without_what_it_needs_is_not_held() -> None:
    handshake, _ = begin(identity())
    names = "batch draft/chathistory draft/event-playback draft/multiline server-time"
    feed(handshake, f":s CAP * LS :{names}", f":s CAP * NAK :{names}", ":s CAP * NAK batch")
    for one in names.split()[1:-1]:
        assert feed(handshake, f":s CAP * ACK {one}") == []
    assert feed(handshake, ":s CAP * ACK server-time") == ["CAP END"]
    # What a history is told in would be taken for what is said now.
    assert handshake.offers.held == {"server-time"}


def test_what_is_needed_may_be_given_after_what_needs_it() -> None:
    offers = Offers()
    offers.take("draft/message-redaction")
    assert offers.held == frozenset()
    offers.take("message-tags")
    assert offers.held == {"draft/message-redaction", "message-tags"}


def test_a_server_that_repeats_all_that_it_refused_is_asked_for_each_once() -> None:
    handshake, _ = begin(sasl())
    names = "batch sasl server-time setname"
    feed(handshake, f":s CAP * LS :{names.replace('sasl', 'sasl=PLAIN')}")
    apart = feed(handshake, f":s CAP * NAK :{names}")
    assert apart == [f"CAP REQ {one}" for one in names.split()]
    assert feed(handshake, *[f":s CAP * NAK :{names}"] * 2, ":s CAP * ACK sasl") == []
    assert feed(handshake, f":s CAP * NAK :{names}") == ["AUTHENTICATE PLAIN"]
    # What is offered anew is asked for anew.
    offers = handshake.offers
    refused = "NAK :batch server-time setname"
    assert said(offers, ":s CAP me NEW :setname") == ["CAP REQ :batch server-time setname"]
    assert len(said(offers, f":s CAP me {refused}")) == 3
    assert said(offers, f":s CAP me {refused}") == []


async def test_when_labels_go_what_is_on_its_way_is_confirmed_by_a_pong() -> None:
    async with entered(LABELS) as (alice, peer, _, network), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "hello"))
        await labelled(peer, "PRIVMSG #room :hello")
        peer.say(":irc.test CAP {nick} DEL :labeled-response echo-message")
        assert not isinstance(await sending, DeliveryError)
        assert not network.connector.capabilities(chat("#room").id).acknowledges
        peer.say(":irc.test CAP {nick} NEW :labeled-response echo-message")
        assert await peer.expect("CAP") == "CAP REQ :echo-message labeled-response"
        peer.say(":irc.test CAP {nick} ACK :labeled-response echo-message")
        await synced(peer)
        again = tasks.create_task(outcome(alice, "#room", "hello again"))
        label = await labelled(peer, "PRIVMSG #room :hello again")
        peer.say(f"@label={label} :Alice!a@h PRIVMSG #room :hello again")
        assert not isinstance(await again, DeliveryError)


@pytest.mark.parametrize(
    ("gone", "text", "said"),
    [
        ("draft/multiline", "one\ntwo", ["PRIVMSG #room :one", "PRIVMSG #room :two"]),
        ("message-tags", "yes", ["PRIVMSG #room :yes"]),
        (
            "message-tags",
            "a\nb",
            ["draft/multiline #room", "PRIVMSG #room :a", "PRIVMSG #room :b"],
        ),
    ],
)
def test_what_is_taken_away_while_a_message_waits_is_not_used_for_it(
    gone: str, text: str, said: list[str]
) -> None:
    capabilities = "batch message-tags draft/multiline=max-bytes=400"

    async def main(loop: SkippingLoop) -> None:
        async with (
            entered(capabilities, flood_burst=4, flood_rate=0.01) as (alice, peer, _, _),
            asyncio.TaskGroup() as tasks,
        ):
            for before in range(5):
                tasks.create_task(alice.send(message("#room", f"{before}")))
            answer = replace(message("#room", text), reply_to=RemoteMessageId("abc"))
            tasks.create_task(alice.send(answer))
            peer.say(f":irc.test CAP {{nick}} DEL :{gone}")
            await synced(peer)
            loop.skipped = 2000
            await peer.expect("PRIVMSG #room :4")
            heard = [await peer.read() for _ in said]
            assert all(one.endswith(text) for one, text in zip(heard, said, strict=True))
            # What holds a group together is no client's tag.
            groups = [False, *[heard[0].startswith("BATCH")] * len(said[1:])]
            assert [one.startswith("@batch=") for one in heard] == groups
            assert any("+draft/reply" in one for one in heard) == (gone != "message-tags")

    run_skipping(main)


def people(*texts: str) -> People:
    known = People(Isupport().key)
    known.see(Source("bob", "b", "h"))
    for text in texts:
        known.handle(incoming(text))
    return known


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (":bob!b@h JOIN #room accountname :Real Name", "account", "accountname"),
        (":bob!b@h JOIN #room accountname :Real Name", "realname", "Real Name"),
        (":bob!b@h JOIN #room * :Real Name", "account", ""),
        (":bob!b@h ACCOUNT accountname", "account", "accountname"),
        (":bob!b@h ACCOUNT *", "account", ""),
        ("@account=hax0r :bob!b@h PRIVMSG #room :hi", "account", "hax0r"),
        (":bob!b@h AWAY :at lunch", "away", "at lunch"),
        (":bob!b@h AWAY", "away", ""),
        (":bob!b@h CHGHOST newuser new.host", "source", Source("bob", "newuser", "new.host")),
        (":bob!b@h SETNAME :Bruce Wayne", "realname", "Bruce Wayne"),
        (":bob!b@h PRIVMSG #room :hi", "account", None),
        (":eve!e@h AWAY :gone", "away", None),
    ],
)
def test_what_servers_tell_of_people_is_known(text: str, field: str, value: object) -> None:
    person = people(text).find("BOB")
    assert person is not None
    assert getattr(person, field) == value


def test_people_are_known_by_their_new_nick_and_forgotten_when_they_go() -> None:
    known = people(":bob!b@h ACCOUNT acc", ":bob!b@h NICK robert")
    assert known.find("bob") is None
    person = known.find("Robert")
    assert person is not None
    assert (person.account, person.source) == ("acc", Source("robert", "b", "h"))
    known.forget("robert")
    assert known.find("robert") is None


async def test_the_new_forms_of_old_lines_are_read_as_before() -> None:
    capabilities = "extended-join userhost-in-names chghost account-notify away-notify setname"
    async with scripted_server() as server:
        network = Network(server.port)
        names = "@+bob!b@h eve!e@h"
        async with listening(server, network, names, capabilities) as (relay, host, peer, _):
            peer.say(
                ":dan!d@h JOIN #room * :Dan", ":dan!d@h AWAY :x", ":dan!d@h CHGHOST a b",
                ":dan!a@b SETNAME :Daniel", ":dan!a@b ACCOUNT dan", ":chief!c@h INVITE x #room",
                ":chief!c@h INVITE {nick} #yard", ":x!x@h INVITE x #no",
                ":dan!a@b PART #room",
            )  # fmt: skip
            await host.wait_for(RemoteLeave)
            roster = relay._ears.roster  # type: ignore[union-attr]
            assert roster.people.find("dan") is None
            person = roster.people.find("bob")
            assert person is not None
            assert person.source == Source("bob", "b", "h")
            peer.say(":{nick}!t@h CHGHOST cloaked users.test", ":x!x@x AWAY")
            await synced(peer)
            connection = relay.link.connection
            assert connection is not None
            assert connection.own == Source("trestle", "cloaked", "users.test")
        assert [one.user.id for one in host.of(RemoteJoin)] == ["dan"]
        (remark,) = host.of(RemoteRemark)
        assert (remark.chat, remark.text) == ("#room", "chief has invited x.")
        assert [one.id for one in remark.people] == ["chief", "x"]
        (told,) = [one for one in peer.heard if one.startswith("NOTICE chief")]
        assert "bridge test #yard" in told
