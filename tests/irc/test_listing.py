"""Long answers of a server: all of them is read, and what is said of them is short."""

import asyncio
import re

import pytest

from bridge.networks.irc.commands.listing import MOST_DETAILED, Listing, show_names
from bridge.networks.irc.connections.inquiry import MOST_LISTED
from bridge.networks.irc.network.people import Person
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Source
from tests.irc import commands
from tests.irc.commands import refused, say
from tests.irc.lines import incoming
from tests.irc.questions import pong, settled
from tests.irc.stage import Network, a_listener, chat, running
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_irc import Peer

KNOWN = {
    "ann": Person(Source("ann", "a", "h"), "anna", "Ann \x02Lee\x02", "at lunch"),
    "bob": Person(Source("bob"), account="", away=""),
    "n7": Person(Source("n7"), away="until noon"),
}


def test_of_few_people_all_that_is_known_is_said() -> None:
    shown = show_names("#room", ["ann", "@bob", "+%carl!c@h"], "@%+", KNOWN.get)
    assert shown.splitlines() == [
        "3 in #room:", "@bob", "+carl", "ann (Ann Lee; account anna; away: at lunch)"
    ]  # fmt: skip


def test_of_many_people_it_is_said_who_is_away() -> None:
    many = [f"n{number}" for number in range(MOST_DETAILED + 1)]
    first, second = show_names("#room", many, "@%+", KNOWN.get).splitlines()
    assert first.startswith(f"{MOST_DETAILED + 1} in #room: n0, n1, ")
    assert second == "Away: n7"


def test_of_many_channels_the_twenty_largest_are_said_and_how_many_more_there_are() -> None:
    listing = Listing("", Isupport(), "me")
    for size in (7, 1, *range(2, 7), *range(8, 26)):
        entry = f":s 322 me #c{size} {size} :[+nt] about \x02{size}\x02"
        listing.hear(incoming(entry))
    *shown, last = listing.show().splitlines()
    assert shown == [f"#c{size} ({size}): about {size}" for size in range(25, 5, -1)]
    assert last == "and 5 smaller ones; a pattern finds them"


async def test_who_is_not_shown_the_list_yet_reads_why_and_not_that_there_is_nothing() -> None:
    async with run_inspircd(lists_late=True) as server, irc_user(server.port, "carl") as carl:
        await carl.join("#trees")
        network = Network(server.port)
        relay, host = network.relay()
        ann = commands.Person(network, "Ann", relay)
        async with running(relay, ann.client):
            await host.wait_until_connected()
            told = await ann.say("list *trees*")
    assert "no such channel" not in told
    assert told.startswith("No such channel was listed. The server says: *** You cannot")


async def test_a_server_that_lists_too_much_just_now_says_so() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(refused("list", relay, "", relay))
        await peer.expect("LIST")
        peer.say(":irc.test 263 {nick} LIST :This command was used recently")
        assert await told == (
            "LIST: the server is too busy (the server: This command was used recently). "
            "Try it again in a minute."
        )


async def test_a_server_that_lists_nothing_and_does_not_end_the_list_is_quoted() -> None:
    """As UnrealIRCd does to those who have just come (``set::restrict-commands``)."""
    why = "You cannot use the LIST command until you've been connected for 60 seconds or more"
    async with (
        a_listener(join_seconds=3.0) as (relay, _, peer, _),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        told = tasks.create_task(refused("list", relay, "", relay))
        await peer.expect("LIST")
        peer.say(f":irc.test NOTICE {{nick}} :{why}")
        assert await told == f"no channel was listed. The server says: {why}"


async def test_of_a_list_that_breaks_off_what_came_is_shown_and_that_it_is_not_all() -> None:
    async with (
        a_listener(join_seconds=3.0) as (relay, _, peer, _),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        told = tasks.create_task(say("list", relay, relay))
        await peer.expect("LIST")
        for number in range(3000):
            peer.say(f":irc.test 322 {{nick}} #c{number} {number} :of {number}")
        lines = (await told).splitlines()
    assert lines[0] == "#c2999 (2999): of 2999"
    assert lines[-2] == "and 2980 smaller ones; a pattern finds them"
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+ broke off after 3000: there may be more; a pattern makes the list "
        r"shorter\.", lines[-1],
    )  # fmt: skip


async def test_of_a_channels_modes_the_key_is_shown_to_nobody() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(say("modes", relay, channel="#room"))
        await peer.expect("MODE #room")
        peer.say(":irc.test 324 {nick} #room +knt sesame")
        await pong(peer)
        await peer.expect("MODE #room b")
        peer.say(":irc.test 368 {nick} #room :End of bans")
        assert await told == "#room has the modes +knt. Nobody is banned."


def list_in_lines(peer: Peer, nicks: list[str], each: int) -> None:
    """Answer who is in #room, so many in a line."""
    for start in range(0, len(nicks), each):
        peer.say(f":irc.test 353 {{nick}} = #room :{' '.join(nicks[start : start + each])}")
    peer.say(":irc.test 366 {nick} #room :End of names")


async def test_of_ten_thousand_people_in_long_lines_everybody_is_counted() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(say("names", relay, channel="#room"))
        await peer.expect("NAMES #room")
        # As with userhost-in-names: ten go into a line.
        people = [f"n{number}!user{number}@{number}.example.org" for number in range(10_000)]
        list_in_lines(peer, people, 10)
        assert (await told).startswith("10000 in #room: n0, n1, ")


async def test_the_last_of_many_bans_is_found_too() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        found = tasks.create_task(relay.find_bans(chat("#room"), ["n599*", "n600*"]))
        await peer.expect("MODE #room b")
        for number in range(600):
            peer.say(f":irc.test 367 {{nick}} #room n{number}*!*@* olga 1")
        peer.say(":irc.test 368 {nick} #room :End of bans")
        assert await found == ["n599*"]


async def test_a_list_that_is_too_long_to_be_read_is_not_told_in_part() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(refused("names", relay, "#room"))
        await peer.expect("NAMES #room")
        list_in_lines(peer, [f"n{number}" for number in range(MOST_LISTED + 1)], 60)
        assert (
            await told == f"#room lists more than {MOST_LISTED} there: that is too much to be read"
        )


def test_what_a_server_says_to_others_or_within_a_list_is_no_word_about_it() -> None:
    listing = Listing("", Isupport(), "me")
    why = ":s NOTICE Me :*** You cannot list channels yet"
    for said in (":s NOTICE #room :*** a invited b", ":s NOTICE $$* :We restart at four", why):
        listing.hear(incoming(said))
    assert listing.show().endswith("The server says: *** You cannot list channels yet")
    # What it lists then is made up, as far as it goes.
    listing.hear(incoming(":s 322 me #room 3 :tea"))
    listing.hear(incoming(":s NOTICE me :*** b was invited by a"))
    assert listing.show().splitlines() == [
        "#room (3): tea", "The server says: *** You cannot list channels yet"
    ]  # fmt: skip
    full = Listing("", Isupport(), "me")
    for said in (":s 322 me #room 3 :tea", ":s NOTICE me :*** b was invited by a"):
        full.hear(incoming(said))
    assert full.show() == "#room (3): tea"


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        pytest.param(
            "416 {nick} LIST :Output too long (try locally)",
            "LIST: there is too much to list (the server: Output too long (try locally)). "
            "A pattern makes the list shorter.", id="too long",
        ),
        pytest.param(
            "263 {nick} LIST :Please wait a while and try again.",
            "LIST: the server is too busy (the server: Please wait a while and try again.). "
            "Try it again in a minute.", id="too busy",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [0, 2])
async def test_a_list_that_is_refused_says_what_came_before_it_and_what_to_do(
    refusal: str, told: str, number: int
) -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        ask = say if number else refused
        answer = tasks.create_task(ask("list", relay=relay, channel="", own=relay))
        await peer.expect("LIST")
        entries = [f":irc.test 322 {{nick}} #c{size} {size} :" for size in range(1, number + 1)]
        peer.say(*entries, f":irc.test {refusal}", ":irc.test 323 {nick} :End of LIST")
        lines = (await answer).splitlines()
        assert lines == ["#c2 (2)", "#c1 (1)"][-number:] * bool(number) + [told]
        # Nothing of it is left over for the next question.
        again = tasks.create_task(say("list tea", relay, relay))
        await pong(peer)
        await peer.expect("LIST")
        peer.say(":irc.test 322 {nick} #tea 3 :", ":irc.test 323 {nick} :End of LIST")
        assert await again == "#tea (3)"
