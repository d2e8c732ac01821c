"""What went wrong in other bridges to IRC, one test an advisory: here it does not."""

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.networks.irc.commands.commands import COMMANDS
from bridge.networks.irc.messages.speech import compose
from bridge.networks.irc.names.targets import read_channel
from bridge.networks.irc.protocol.acts import answering
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import LineReader, Source, line
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind
from bridge.settings.records import Address, WebSettings
from tests.flow.channels import read_texts
from tests.flow.networks import irc_module
from tests.flow.rooms import BOT, bridge, edit, react, redact, reply
from tests.irc.stage import message
from tests.rigs.cluster import Cluster
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.people import sign_in
from tests.rigs.trestle import Town, deliver, make_modules, running

BREAKS = ("\r", "\n", "\r\n", "\0", "\x01", "\u2028", "\u0085")
BAD_CHANNELS = (
    "#a,#b",
    "#a\x07b",
    "#a b",
    "#a:b",
    "#a\r\nQUIT",
    "#a\nJOIN #b",
    "#a\0b",
    "a",
    "#",
    "",
)
NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Stage:
    """Two bridged rooms of Alice's, and Carl, who is in both channels."""

    town: Town
    app: App
    alice: MatrixUser
    one: str
    two: str
    carl: IrcUser


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(town: Town, cluster: Cluster, tmp_path_factory: Any) -> AsyncIterator[Stage]:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#one")
        await carl.join("#two")
        settings = town.settings_for(
            tmp_path_factory.mktemp("advisories"), await cluster.fresh(),
            modules=make_modules(irc_module(irc, quote_after_seconds=0)),
        )  # fmt: skip
        web = WebSettings(listen=Address("127.0.0.1", 0), manager_url="http://manager.example")
        async with running(replace(settings, web=web)) as app:
            alice = await town.person("alice")
            one, two = await bridge(alice, "#one"), await bridge(alice, "#two")
            yield Stage(town, app, alice, one, two, carl)


def sent_lines(text: str, **changes: Any) -> Sequence[bytes]:
    """What goes over the wire for a message of that text."""
    settings = IrcSettings.model_validate({"servers": [{"host": "irc.example.org"}]})
    made = compose(
        message("#x", text, **changes), "#x", own=Source("ann"), limits=Isupport(),
        settings=settings,
    )  # fmt: skip
    return [one.encode() for one in [answering(made[0], "id\r\nQUIT"), *made[1:]]]


@pytest.mark.parametrize("cut", BREAKS)
def test_cve_2022_29166_a_carriage_return_in_a_reply_ends_no_line(cut: str) -> None:
    for kind, relayed in itertools.product(MessageKind, (False, True)):
        name = f"Ann{cut}QUIT"
        for raw in sent_lines(f"> said{cut}QUIT :x", kind=kind, relayed=relayed, sender=name):
            assert LineReader().feed(raw) == [raw[:-1]]
            assert raw.count(b"\r") == raw.count(b"\n") == 1
            assert raw.partition(b" #x")[0].rpartition(b" ")[2] in {b"PRIVMSG", b"NOTICE"}


@pytest.mark.parametrize("name", BAD_CHANNELS)
def test_cve_2022_39203_no_name_stands_for_another_channel_or_two(name: str) -> None:
    with pytest.raises(PermanentFailure):
        read_channel(name, Isupport())


def test_cve_2022_39203_spellings_of_one_channel_are_one() -> None:
    ids = {read_channel(name, Isupport()).id for name in ("#A[b]\\~", "#a{B}|^", "#a[b]|^")}
    assert len(ids) == 1


async def test_cve_2022_39202_ranks_reach_those_who_were_named(stage: Stage) -> None:
    carl, alice = stage.carl, stage.alice
    carl.say("MODE #one +o trestle", "MODE #one +v carl")
    await carl.expect("+v carl")
    await alice.say(stage.one, "hello")
    await carl.expect("PRIVMSG #one", "hello")
    await alice.say(stage.one, "!trestle near voice -carl trestle -carl")
    await alice.wait_for_text(stage.one, "Done in #one")
    await alice.say(stage.one, "!trestle near names")
    shown = (await alice.wait_for_text(stage.one, "in #one:\n@"))["content"]["body"]
    assert "@carl" in shown
    assert "@trestle" in shown


async def test_cve_2023_38690_a_line_break_in_a_command_makes_no_second_one(
    stage: Stage,
) -> None:
    evil = "x\r\nQUIT :gone\rPRIVMSG carl :pwned\nPRIVMSG carl :pwned"
    for command in (*(one.name for one in COMMANDS), "join #x", "msg carl"):
        await stage.alice.say(stage.one, f"!trestle near {command} {evil}")
        await stage.alice.say(stage.one, f"!trestle near {command}\nQUIT :gone")
    # Once that is answered all of them are done, and what they wrote comes before this.
    await stage.alice.say(stage.one, "!trestle ping")
    await stage.alice.wait_for_text(stage.one, "I am here")
    await stage.alice.say(stage.two, f"that was it {next(NUMBERS)}")
    await stage.carl.expect("PRIVMSG #two", "that was it")
    heard = [one.split(" ", 3) for one in stage.carl.heard]
    # Her own connection ends by `disconnect`, with what it says of itself.
    assert not [one for one in heard if one[1] == "QUIT" and "gone" in one[-1]]
    said = [one[-1] for one in heard if one[1] == "PRIVMSG" and one[2] == "carl"]
    assert ":PRIVMSG carl :pwned" in said  # By `msg`, which says it to him.
    assert ":pwned" not in said


async def test_cve_2024_52505_the_provisioning_api_reads_channels_as_strictly(
    stage: Stage,
) -> None:
    before = [door.portal.chat for door in stage.app.parts.portals.all]
    program = await sign_in(stage.app, stage.town.session, stage.alice.id)
    for name in BAD_CHANNELS:
        wanted = {"network": "near", "chat": name, "room": stage.one}
        await program.ask("POST", "/portals", wanted, status=400)
    assert [door.portal.chat for door in stage.app.parts.portals.all] == before


@pytest.mark.parametrize("cut", BREAKS)
def test_cve_2025_27146_no_text_for_the_server_holds_a_line_break(cut: str) -> None:
    for command, *before in (
        ("TOPIC", "#x"), ("NICK",), ("USER", "ann", "0", "*"), ("AWAY",), ("QUIT",),
        ("PART", "#x"), ("KICK", "#x", "ann"), ("PRIVMSG", "#x"), ("NOTICE", "#x"),
    ):  # fmt: skip
        raw = line(command, *before, f"news{cut}QUIT :gone").encode()
        assert LineReader().feed(raw) == [raw[:-1]]
        assert raw.count(b"\r") == raw.count(b"\n") == 1


async def heard_before(stage: Stage, mark: str) -> Sequence[str]:
    """What was said in the channels, up to a mark and with it."""
    found: list[str] = []
    while mark not in "".join(found):
        found += [text for _, text in await read_texts(stage.carl, 1)]
    return found


async def test_cve_2023_38700_a_reply_quotes_nothing_of_another_room(stage: Stage) -> None:
    secret = await stage.alice.say(stage.two, "the safe stands open")
    await stage.carl.expect("PRIVMSG #two", "safe stands open")
    await reply(stage.alice, stage.one, secret, "across rooms")
    said = await heard_before(stage, "across rooms")
    assert said == ["across rooms"]


async def test_cve_2024_32000_a_reply_quotes_nothing_that_its_sender_cannot_see(
    stage: Stage,
) -> None:
    alice, bea = stage.alice, await stage.town.person("bea")
    await alice.set_state(stage.one, "m.room.history_visibility", {"history_visibility": "joined"})
    secret = await alice.say(stage.one, "the safe stands open")
    await stage.carl.expect("PRIVMSG #one", "safe stands open")
    await bea.join(stage.one)
    await reply(bea, stage.one, secret, "before my time")
    assert "safe" not in " ".join(await heard_before(stage, "before my time"))


async def test_cve_2024_39691_what_an_event_says_of_its_time_decides_nothing(
    stage: Stage,
) -> None:
    alice, late = stage.alice, await stage.town.person("late")
    await alice.set_state(stage.one, "m.room.history_visibility", {"history_visibility": "joined"})
    secret = await alice.say(stage.one, "the vault is empty")
    await stage.carl.expect("PRIVMSG #one", "vault is empty")
    await late.join(stage.one)
    relates = {"m.in_reply_to": {"event_id": secret}}
    events = [
        {
            "type": "m.room.message", "room_id": stage.one, "sender": late.id,
            "event_id": f"$forged{next(NUMBERS)}", "origin_server_ts": stamp,
            "content": {"msgtype": "m.text", "body": f"forged {n}", "m.relates_to": relates},
        }
        for n, stamp in enumerate((2**53 - 1, 0, 1))
    ]  # fmt: skip
    await deliver(stage.app.settings, f"forged{next(NUMBERS)}", events)
    said = await heard_before(stage, "forged 2")
    assert "vault" not in " ".join(said)
    # In the order in which they came.
    assert [text[-len("forged 0") :] for text in said] == ["forged 0", "forged 1", "forged 2"]


async def test_what_was_taken_back_is_quoted_by_no_answer_reaction_or_edit(stage: Stage) -> None:
    alice, carl = stage.alice, stage.carl
    carl.say("PRIVMSG #two :the attic is locked")
    theirs = str((await alice.wait_for_text(stage.two, "attic is locked"))["event_id"])
    said = await alice.say(stage.two, "the cellar is locked")
    kept = await alice.say(stage.two, "the garage is locked")
    await edit(alice, stage.two, kept, "the garage is open, wide open")
    await alice.say(stage.two, "and so on")
    await carl.expect("PRIVMSG #two", "and so on")
    await alice.set_state(stage.two, "m.room.power_levels", {"users": {BOT: 100}})
    for event in (said, theirs):
        await redact(alice, stage.two, event)
    for event in (said, theirs, kept):
        await reply(alice, stage.two, event, "how so?")
        await react(alice, stage.two, event, "\N{THUMBS UP SIGN}")
    await edit(alice, stage.two, said, "the cellar is open")
    await alice.say(stage.two, "the end of it")
    heard = await heard_before(stage, "the end of it")
    tail = " ".join(heard)
    assert "how so?" in tail
    assert "the cellar is open" in tail
    assert "locked" not in tail
    assert tail.count("to an earlier message") == 2
    assert tail.count('("the garage is open, wide open")') == 1


async def test_what_was_said_while_the_past_was_hidden_is_not_quoted_later(stage: Stage) -> None:
    alice, new = stage.alice, await stage.town.person("new")
    await alice.set_state(stage.one, "m.room.history_visibility", {"history_visibility": "joined"})
    secret = await alice.say(stage.one, "the garden gate is broken")
    await stage.carl.expect("PRIVMSG #one", "gate is broken")
    await alice.set_state(stage.one, "m.room.history_visibility", {"history_visibility": "shared"})
    since = await alice.say(stage.one, "the fence is new")
    await new.join(stage.one)
    for event in (secret, since):
        await reply(new, stage.one, event, "is it?")
    await react(new, stage.one, secret, "\N{THUMBS UP SIGN}")
    await alice.say(stage.one, "enough of fences")
    said = " ".join(await heard_before(stage, "enough of fences"))
    assert '("the fence is new")' in said
    assert "to an earlier message" in said
    assert "gate" not in said.partition("is it?")[2]
