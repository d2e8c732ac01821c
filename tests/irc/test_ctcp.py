"""Questions to other people's programs."""

import asyncio

import pytest

from tests.irc.commands import Person, refused, say
from tests.irc.loops import SkippingLoop, run_skipping
from tests.irc.stage import Network, a_speaker, direct, running, synced
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer


async def answers(user: IrcUser, question: str, *said: str) -> None:
    """Have somebody's program answer."""
    line = await user.expect("PRIVMSG", question)
    user.say(*(f"NOTICE {line[1:].partition('!')[0]} :\x01{one}\x01" for one in said))


async def test_a_persons_program_is_asked_and_its_answer_told(server: IrcServer) -> None:
    network = Network(server.port)
    relay, _ = network.relay()
    ada, bea = Person(network, "Ada", relay), Person(network, "Bea", relay)
    async with (
        irc_user(server.port, "carl") as carl, running(ada.client, bea.client),
        asyncio.TaskGroup() as tasks,
    ):  # fmt: skip
        told = tasks.create_task(ada.say("ctcp CARL version"))
        await answers(carl, ":\x01VERSION\x01", "TIME is not it", "VERSION \x02irssi\x02 v1.4")
        assert await told == "CARL answers: irssi v1.4"
        assert "once in 30 seconds at most" in await ada.refused("ctcp carl TIME")

        told = tasks.create_task(bea.say("ctcp carl PING"))
        await answers(carl, ":\x01PING trestle\x01", "PING trestle")
        assert (await told).startswith("carl answered after ")
        assert direct(ada.host) == direct(bea.host) == []


async def test_where_nobody_has_the_nick_that_is_said_at_once(server: IrcServer) -> None:
    network = Network(server.port)
    relay, _ = network.relay()
    cleo = Person(network, "Cleo", relay)
    async with running(cleo.client):
        assert "nobody and no channel has that name" in await cleo.refused("ctcp nobody_here TIME")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("ctcp #room VERSION", "is no IRC nick but a channel"),
        ("ctcp @bob:a.org VERSION", "is no IRC nick but a Matrix id: their nick"),
        ("ctcp @#room VERSION", "is no IRC nick"),
        ("ctcp a,b VERSION", "is no IRC nick"),
        ("ctcp bob ACTION waves", "what can be asked is CLIENTINFO, FINGER, PING, "),
        ("ctcp bob DCC SEND x 1 2 3", "what can be asked is "),
        ("ctcp bob VERSION\x01\r\nQUIT", "what can be asked is "),
        ("ctcp bob PING 12345", "what can be asked is "),
        ("ctcp alice VERSION", "@alice:example.org's own connection"),
    ],
)
async def test_only_one_person_is_asked_and_only_what_asks(said: str, why: str) -> None:
    async with a_speaker(private_messages=True) as (puppet, _, peer, _):
        assert why in await refused(said, puppet, "", puppet)
        await synced(peer)
        assert not any("\x01" in one for one in peer.heard)


async def test_where_nobody_is_written_to_no_program_is_asked() -> None:
    async with a_speaker(private_messages=False) as (puppet, _, _, _):
        assert "by msg" in await refused("ctcp bob VERSION", puppet, "", puppet)


def test_who_does_not_answer_is_waited_for_ten_seconds() -> None:
    async def wait(loop: SkippingLoop) -> None:
        async with a_speaker() as (puppet, host, peer, _), asyncio.TaskGroup() as tasks:
            told = tasks.create_task(say("ctcp bob VERSION", puppet, puppet))
            await peer.expect("PRIVMSG bob :\x01VERSION\x01")
            # None of these answers it: a question back, another's, what is said.
            peer.say(
                ":bob!b@h PRIVMSG {nick} :\x01VERSION\x01",
                ":eve!e@h NOTICE {nick} :\x01VERSION x\x01",
                ":bob!b@h NOTICE {nick} :VERSION x", ":bob!b@h NOTICE #room :\x01VERSION x\x01",
            )  # fmt: skip
            await peer.expect("NOTICE bob :\x01VERSION Trestle")
            await synced(peer)
            assert not told.done()
            loop.skipped += 11
            assert await told == "bob has not answered within 10 seconds: not every program does."
            assert [text for _, _, text in direct(host)] == ["VERSION x"]

            loop.skipped += 30
            told = tasks.create_task(say("ctcp bob userinfo", puppet, puppet))
            await peer.expect("PRIVMSG bob :\x01USERINFO\x01")
            peer.say(":bob!b@h NOTICE {nick} :\x01USERINFO")
            assert await told == "bob answers, and says nothing."

    run_skipping(wait)
