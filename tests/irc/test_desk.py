"""Operators are heard in time, whoever else says the same words."""

import asyncio

import pytest

from bridge.networks.irc.private.desk import MOST_LINES
from bridge.sdk.events import ConsentRequest, Wish
from bridge.sdk.ids import UserId
from tests.irc.stage import (
    Network,
    a_listener,
    chat,
    list_names,
    listening,
    refusal,
    speaking,
    synced,
    user_id,
)
from tests.rigs.scripted_irc import scripted_server

STRANGERS = 60


async def test_strangers_who_say_the_words_again_and_again_do_not_delay_an_operator() -> None:
    names = " ".join(["@olga", *(f"s{number}" for number in range(STRANGERS))])
    async with a_listener(names, flood_burst=5, flood_rate=20) as (_, host, peer, _):
        # Some name a channel of which the server says nothing.
        for word in ("status", "leave #quiet", "block olga #quiet", "status #room"):
            peer.say(*(
                f":s{number}!u@h{number} PRIVMSG {{nick}} :{word}" for number in range(STRANGERS)
            ))  # fmt: skip
        await synced(peer)
        peer.say(":olga!o@h PRIVMSG {nick} :leave")
        peer.heard.clear()
        await peer.expect("NAMES #room")
        list_names(peer, names, olga="o@h")
        await peer.expect("NOTICE olga :leave is done")
    assert [(one.moderator.name, one.wish) for one in host.wishes] == [("olga", Wish.LEAVE)]


async def test_who_runs_no_channel_has_the_server_asked_about_nothing_unnamed() -> None:
    async with a_listener("@olga +vera bob") as (_, host, peer, _):
        seen = "That cannot be done: I see you as an operator of no bridged channel just now"
        again = "say it once more with the channel's name behind it"
        for nick, said in (("vera", "leave"), ("bob", "Block carl")):
            peer.say(f":{nick}!u@{nick} PRIVMSG {{nick}} :{said}")
            told = await peer.expect(f"NOTICE {nick} :{seen}; {again}")
            assert f"({said.replace('B', 'b')} #channel)" in told
        peer.say(":bob!u@bob PRIVMSG {nick} :leave #a #b #c #d")
        await peer.expect("NOTICE bob :That cannot be done: name 3 channels at a time")
        await synced(peer)
        assert not [one for one in peer.heard if one.startswith("NAMES")]
        # Whom the server calls an operator when it is asked is one, though the relay did not hear.
        peer.say(":bob!u@bob PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        list_names(peer, "@bob", bob="u@bob")
        await peer.expect("NOTICE bob :leave is done")
        assert [one.moderator.name for one in host.wishes] == ["bob"]


async def test_whom_the_relay_saw_as_operator_and_the_server_does_not_is_told_just_that() -> None:
    async with a_listener("@olga") as (_, host, peer, _):
        peer.say(":olga!o@h PRIVMSG {nick} :leave")
        await peer.expect("NAMES #room")
        list_names(peer, "olga", olga="o@h")
        told = await peer.expect("NOTICE olga :That cannot be done: ")
        assert "you are an operator of no bridged channel, as far as the server says" in told
        assert host.wishes == []


@pytest.mark.parametrize(("sign", "may"), [("%", False), ("+", False), ("&", True), ("~", True)])
async def test_who_stands_below_an_operator_ends_nothing_and_who_stands_above_does(
    sign: str, may: bool
) -> None:
    async with a_listener(f"{sign}hana", prefix="(qaohv)~&@%+") as (_, host, peer, _):
        peer.say(":hana!h@h PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        list_names(peer, f"{sign}hana", hana="h@h")
        no = "That cannot be done: the server does not say that you are an operator of #room"
        await peer.expect(f"NOTICE hana :{'leave is done' if may else no}")
    assert len(host.wishes) == may


async def test_a_nick_that_is_like_an_operators_by_our_rule_alone_is_somebody_elses() -> None:
    async with a_listener("@ol{a") as (_, host, peer, _):
        # By the server's own rule both may be there: ours, which it told, takes them for one.
        peer.say(":ol[a!o@h PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        list_names(peer, "@ol{a", **{"ol[a": "o@h"})
        await peer.expect("NOTICE ol[a :That cannot be done: the server does not say that you are")
    assert host.wishes == []


async def test_an_operator_who_ends_it_does_not_wait_for_what_others_look_at() -> None:
    async with a_listener("@olga @oskar") as (_, host, peer, _):
        # The server says nothing of the channel that he names: he waits for it.
        peer.say(":oskar!u@h PRIVMSG {nick} :status #quiet #room")
        await peer.expect("NAMES #quiet")
        peer.say(*[":oskar!u@h PRIVMSG {nick} :status"] * 10)
        peer.say(":olga!u@h PRIVMSG {nick} :block bob")
        await peer.expect("NAMES #room")
        list_names(peer, "@olga @oskar", olga="u@h")
        await peer.expect("NOTICE olga :block is done")
        assert [one.wish for one in host.wishes] == [Wish.BLOCK]


async def test_of_many_who_are_blocked_an_operator_hears_each() -> None:
    blocked = [f"@person{number}:example.org" for number in range(40)]
    async with a_listener("@olga") as (_, host, peer, _):
        host.told = f"Blocked: {', '.join(blocked)}."
        peer.say(":olga!o@h PRIVMSG {nick} :status")
        await peer.expect("NAMES #room")
        list_names(peer, "@olga", olga="o@h")
        await peer.expect("NOTICE olga :status is done")
        heard = ""
        while not heard.endswith("."):
            heard += " " + (await peer.expect("NOTICE olga :")).removeprefix("NOTICE olga :")
    assert heard == f" {host.told}"


async def test_an_answer_of_many_lines_ends_with_how_to_ask_for_less() -> None:
    async with a_listener("@olga") as (_, host, peer, _):
        host.told = "\n".join(f"line {number}" for number in range(40))
        peer.say(":olga!o@h PRIVMSG {nick} :status")
        await peer.expect("NAMES #room")
        list_names(peer, "@olga", olga="o@h")
        await peer.expect("NOTICE olga :There is more: name the channel.")
        await synced(peer)
        told = [one for one in peer.heard if one.startswith("NOTICE olga")]
        assert len(told) == MOST_LINES
        assert told[-2:] == [
            "NOTICE olga :line 7", "NOTICE olga :There is more: name the channel."
        ]  # fmt: skip


async def test_a_notice_that_begins_with_a_wish_is_neither_taken_nor_answered() -> None:
    async with a_listener("@olga") as (_, host, peer, _):
        peer.say(":olga!o@h NOTICE {nick} :block bob", ":olga!o@h PRIVMSG {nick} :leave")
        await peer.expect("NAMES #room")
        list_names(peer, "@olga", olga="o@h")
        assert await peer.expect("NOTICE") == "NOTICE olga :leave is done"
    assert [one.wish for one in host.wishes] == [Wish.LEAVE]


async def test_whom_an_operator_blocks_is_told_by_the_word_and_by_who_has_it_for_a_nick() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network),
            listening(server, network, "@olga Alice") as (_, host, peer, _),
        ):
            for word in ("ALICE", "example"):
                peer.say(f":olga!u@h PRIVMSG {{nick}} :block {word}")
                await peer.expect("NAMES #room")
                list_names(peer, "@olga Alice", olga="u@h")
                await peer.expect("NOTICE olga :block is done")
    said = [(one.about, one.person) for one in host.wishes]
    assert said == [("ALICE", user_id("Alice")), ("example", None)]


async def test_a_wish_is_that_of_who_said_it_and_not_of_who_has_the_nick_in_the_end() -> None:
    lost = "NOTICE alice :That cannot be done: alice may be somebody else than when that was said"
    async with a_listener("bob") as (_, host, peer, _):
        for place in ("alice@home", "mallory@home", "alice@evil", ""):
            peer.say(":alice!mallory@evil PRIVMSG {nick} :leave #room")
            await peer.expect("NAMES #room")
            list_names(peer, "@alice", alice=place)
            await peer.expect(lost)
        # By this network's rule the two are one nick, and the server says that they are not.
        peer.say(":al[ice!mallory@evil PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        list_names(peer, "@al{ice", **{"al[ice": "mallory@evil"})
        await peer.expect("NOTICE al[ice :That cannot be done: the server does not say that you")
        assert host.wishes == []
        peer.say(":alice!mallory@evil PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        list_names(peer, "@alice", alice="mallory@evil")
        await peer.expect("NOTICE alice :leave is done")


@pytest.mark.parametrize(
    ("seen", "answered"),
    [
        (":alice!a@h NICK mallory", "mallory"), (":mallory!m@h NICK Alice", "alice"),
        (":alice!a@h QUIT :bye", "alice"),
    ],
)  # fmt: skip
async def test_a_wish_whose_nick_was_seen_to_go_is_not_done(seen: str, answered: str) -> None:
    async with a_listener("alice") as (_, host, peer, _):
        peer.say(":alice!a@h PRIVMSG {nick} :leave #room", ":eve!e@e PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        peer.say(seen)
        list_names(peer, "@alice @eve", alice="a@h", eve="e@e")
        await peer.expect(f"NOTICE {answered} :That cannot be done: alice may be somebody else")
        await peer.expect("NAMES #room")
        list_names(peer, "@alice @eve")
        await peer.expect("NOTICE eve :leave is done")
        assert [one.moderator.name for one in host.wishes] == ["eve"]


async def test_who_is_spelled_otherwise_by_now_is_the_same() -> None:
    async with a_listener("@alice") as (_, host, peer, _):
        peer.say(":alice!a@h PRIVMSG {nick} :leave")
        await peer.expect("NAMES #room")
        peer.say(":alice!a@h NICK Alice")
        list_names(peer, "@Alice", Alice="a@h")
        await peer.expect("NOTICE Alice :leave is done")
        assert [one.moderator.name for one in host.wishes] == ["Alice"]


@pytest.mark.parametrize(("server", "shown"), [
    (f"{'long.' * 8}example", f":{'long.' * 8}example"),
    (f"bank.example.{'long.' * 12}example", ":...ng.long."),
])  # fmt: skip
async def test_long_names_hide_nothing_of_what_an_operator_is_asked(
    server: str, shown: str
) -> None:
    names = "@olga"
    async with a_listener(names) as (client, _, peer, _):
        request = ConsentRequest(
            chat=chat("#room"), room="\N{GRINNING FACE}" * 100, minutes=5,
            asked_by=UserId(f"@{'a' * 150}:{server}"),
        )  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(client.ask(request))
            await peer.expect("NAMES #room")
            list_names(peer, names, olga="o@h")
        assert [one.name for one in asking.result()] == ["olga"]
        asked = await peer.expect("PRIVMSG olga :@aaa")
    name = asked.partition(" asks")[0]
    assert f"aaa...{shown}" in name
    assert name.endswith("long.example")
    assert "people there could speak here" in asked
    assert len(asked.encode()) <= 512 - 100


async def test_an_operator_reads_what_to_say_however_long_the_channels_name_is() -> None:
    channel, names = "#" + "x" * 199, "@olga"
    async with a_listener() as (client, _, peer, _), asyncio.TaskGroup() as tasks:
        request = ConsentRequest(
            chat=chat(channel), room="r" * 100, minutes=5, asked_by=user_id("Alice")
        )
        tasks.create_task(client.ask(request))
        await peer.expect(f"NAMES {channel}")
        peer.say(
            f":irc.test 353 {{nick}} = {channel} :{names}", f":irc.test 366 {{nick}} {channel} :"
        )
        asked = [await peer.expect("PRIVMSG olga :") for _ in range(4)]
    assert asked[0].endswith("people there could speak here.")
    for answer in (f"/msg {peer.nick} yes {channel}", f"/msg {peer.nick} no {channel}"):
        assert any(one.endswith(answer) for one in asked)


async def test_at_most_five_operators_are_asked_none_of_ours_and_nobody_else() -> None:
    request = ConsentRequest(chat=chat("#den"), room="R", minutes=5, asked_by=user_id("Alice"))
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network),
            listening(server, network) as (client, _, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            peer.say(":irc.test 005 {nick} PREFIX=(qov)~@+ :are supported")
            await synced(peer)
            for names in ("@Alice +voiced bob", ""):
                refused = tasks.create_task(refusal(client.ask(request)))
                await peer.expect("NAMES #den")
                list_names(peer, names, "#den")
                assert "no operator of #den is to be seen from outside" in await refused
            asking = tasks.create_task(client.ask(request))
            await peer.expect("NAMES #den")
            list_names(peer, "@Alice @o1 +voiced ~o2 @o3 bob @o4 @o5 @o6", "#den")
            asked = [one.name for one in await asking]
            assert asked == ["o1", "o2", "o3", "o4", "o5"]
            await synced(peer)
            told = {one.split()[1] for one in peer.heard if one.startswith("PRIVMSG")}
            assert told == set(asked)


async def test_who_is_asked_about_one_channel_may_answer_by_the_word_alone() -> None:
    async with a_listener() as (client, host, peer, _), asyncio.TaskGroup() as tasks:

        async def ask(channel: str, minutes: int = 5) -> None:
            request = ConsentRequest(
                chat=chat(channel), room="R", minutes=minutes, asked_by=user_id("Alice")
            )
            asking = tasks.create_task(client.ask(request))
            await peer.expect(f"NAMES {channel}")
            list_names(peer, "@olga", channel)
            assert [one.name for one in await asking] == ["olga"]

        await ask("#late", minutes=0)  # It is too late to answer that.
        await ask("#Den")
        peer.say(":bob!u@bob PRIVMSG {nick} :no")
        await peer.expect("NOTICE bob :That cannot be done: I see you as an operator of no")
        peer.say(":olga!o@h PRIVMSG {nick} :yes")
        await peer.expect("NAMES #Den")
        list_names(peer, "@olga", "#Den", olga="o@h")
        await peer.expect("NOTICE olga :agree is done")
        await ask("#nook")
        peer.say(":olga!o@h PRIVMSG {nick} :yes hello, who are you? we do not want that")
        await peer.expect("NOTICE olga :You were asked whether #nook may be bridged.")
        await ask("#attic")
        peer.say(":olga!o@h PRIVMSG {nick} :no")
        await peer.expect("NOTICE olga :That cannot be done: that is about several channels; name")
        peer.say(":olga!o@h PRIVMSG {nick} :no #nook")
        await peer.expect("NAMES #nook")
        list_names(peer, "@olga", "#nook", olga="o@h")
        await peer.expect("NOTICE olga :refuse is done")
        peer.say(":olga!o@h PRIVMSG {nick} :yes")
        await peer.expect("NAMES #attic")
        list_names(peer, "@olga", "#attic", olga="o@h")
        await peer.expect("NOTICE olga :agree is done")
    assert [(one.wish, one.chat.name) for one in host.wishes] == [
        (Wish.AGREE, "#Den"), (Wish.REFUSE, "#nook"), (Wish.AGREE, "#attic"),
    ]  # fmt: skip


async def test_who_answers_in_words_of_their_own_reads_which_words_count() -> None:
    async with a_listener() as (client, host, peer, _), asyncio.TaskGroup() as tasks:
        request = ConsentRequest(chat=chat("#den"), room="R", minutes=5, asked_by=user_id("Alice"))
        asking = tasks.create_task(client.ask(request))
        await peer.expect("NAMES #den")
        list_names(peer, "@olga", "#den")
        await asking
        for said in (
            "ok",
            "Yes! But what is this, not #den please",
            "sure, go ahead",
            "#den yes",
            "yes please",
            "yes den",
        ):
            peer.say(f":olga!o@h PRIVMSG {{nick}} :{said}")
            told = await peer.expect("NOTICE olga :You were asked whether #den may be bridged.")
            assert told.endswith("yes #den   or   /msg trestle no #den")
        peer.say(":bob!b@h PRIVMSG {nick} :ok")
        await peer.expect("NOTICE bob :I am a connection to Matrix.")
        peer.say(":olga!o@h PRIVMSG {nick} :help")
        await peer.expect("NOTICE olga :I carry channels of this network")
        peer.say(":olga!o@h PRIVMSG {nick} :Yes.")
        await peer.expect("NAMES #den")
        list_names(peer, "@olga", "#den", olga="o@h")
        await peer.expect("NOTICE olga :agree is done")
        peer.say(":olga!o@h PRIVMSG {nick} :thank you!")
        await peer.expect("NOTICE olga :I am a connection to Matrix.")
    assert [(one.wish, one.chat.name) for one in host.wishes] == [(Wish.AGREE, "#den")]


async def test_who_runs_several_channels_sees_all_and_ends_the_one_that_is_named() -> None:
    async with a_listener("@olga") as (relay, host, peer, _), asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(relay.join(chat("#other")))
        await peer.admit("@olga")
        await joining
        cannot = "That cannot be done:"
        for said, answer in (
            ("leave", f"{cannot} you run several channels here; name one: #room, #other"),
            ("block bob", f"{cannot} you run several channels here; name one: "),
            ("status", "status is done"), ("block", f"{cannot} say block and a nick"),
            ("leave #other", "leave is done"),
        ):  # fmt: skip
            peer.say(f":olga!o@h PRIVMSG {{nick}} :{said}")
            for name in ("#room", "#other") if said in {"leave", "status", "block bob"} else ():
                await peer.expect(f"NAMES {name}")
                list_names(peer, "@olga", name, olga="o@h")
            if said == "leave #other":
                await peer.expect("NAMES #other")
                list_names(peer, "@olga", "#other", olga="o@h")
            await peer.expect(f"NOTICE olga :{answer}")
        await synced(peer)
    assert [(one.wish, one.chat.name) for one in host.wishes] == [
        (Wish.STATUS, "#room"), (Wish.STATUS, "#other"), (Wish.LEAVE, "#other"),
    ]  # fmt: skip
