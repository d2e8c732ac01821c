"""A server that takes away what a message counts on, while the message waits to be written."""

import asyncio
from typing import Any

import pytest

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Receipt, Sender, Typing
from bridge.sdk.ids import RemoteChatId
from tests.irc.echoes import ME, entered, outcome
from tests.irc.stage import message, synced, user_id
from tests.rigs.scripted_irc import Peer

ECHO = "batch message-tags echo-message draft/multiline=max-bytes=4000,max-lines=4"
LABELS = f"{ECHO} labeled-response"
# Four lines and the frame of a group are a burst; the join has taken one place of it.
PACE: dict[str, Any] = {"flood_burst": 6, "flood_rate": 4}
LINES = ["one", "two", "three", "four"]


def revoke(peer: Peer, names: str) -> None:
    peer.say(f":irc.test CAP {{nick}} DEL :{names}")


@pytest.mark.parametrize(
    ("held", "gone"),
    [
        (LABELS, "draft/multiline"), (ECHO, "draft/multiline"),
        (LABELS, "batch"), (LABELS, "draft/multiline labeled-response"),
        (LABELS, "draft/multiline labeled-response echo-message"),
        (ECHO, "draft/multiline echo-message"),
        (LABELS, "draft/multiline echo-message"),
    ],
)  # fmt: skip
async def test_a_group_that_waits_while_groups_go_is_said_line_by_line(
    held: str, gone: str
) -> None:
    async with entered(held, **PACE) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "\n".join(LINES)))
        revoke(peer, gone)
        await synced(peer)
        assert not any("BATCH" in one for one in peer.heard)
        said: list[str] = []
        while len(said) < len(LINES):
            one = await peer.read()
            tags, _, words = one.rpartition("PRIVMSG #room :")
            assert "batch" not in one.lower()
            said.append(words)
            if "echo-message" not in gone:
                label = f"@{tags[1:].strip()};msgid=m{len(said)}" if tags else "@msgid=m1"
                peer.say(f"{label} {ME} PRIVMSG #room :{words}")
        assert said == LINES
        receipt = await sending
        assert isinstance(receipt, Receipt)
        await synced(peer)
        assert sum("PRIVMSG" in one for one in peer.heard) == len(LINES)


async def test_a_group_that_waits_while_the_server_takes_less_at_once_is_said_line_by_line() -> (
    None
):
    async with entered(ECHO, **PACE) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "\n".join(LINES)))
        peer.say(":irc.test CAP {nick} NEW :draft/multiline=max-bytes=4000,max-lines=3")
        for one in LINES:
            await peer.expect(f"PRIVMSG #room :{one}")
            peer.say(f"{ME} PRIVMSG #room :{one}")
        assert isinstance(await sending, Receipt)


async def test_of_a_refused_line_of_such_a_group_it_is_told_how_many_were_taken() -> None:
    async with entered(LABELS, **PACE) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        peer.pong = None  # Servers answer in order.
        sending = tasks.create_task(outcome(alice, "#room", "\n".join(LINES)))
        revoke(peer, "draft/multiline labeled-response echo-message")
        for one in LINES:
            await peer.expect(f"PRIVMSG #room :{one}")
        peer.say(":irc.test 404 {nick} #room :No colours here")
        marker = (await peer.expect("PING")).removeprefix("PING ")
        peer.say(f":irc.test PONG irc.test :{marker}")
        error = await sending
        assert isinstance(error, PermanentFailure)
        assert "(3 of its 4 lines were taken)" in str(error)


@pytest.mark.parametrize("text", ["one", "\n".join(LINES)])
async def test_what_waits_while_tags_go_is_said_without_them(text: str) -> None:
    async with entered(ECHO, **PACE) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        for before in range(5):
            tasks.create_task(alice.send(message("#room", f"before {before}")))
            await peer.expect("PRIVMSG")
        answer = message("#room", text)
        fields = {name: getattr(answer, name) for name in answer.__slots__}
        sending = tasks.create_task(alice.send(type(answer)(**{**fields, "reply_to": "abc"})))
        revoke(peer, "message-tags echo-message")
        assert "draft/reply" not in (said := await peer.read())
        assert said.startswith("PRIVMSG #room :one" if text == "one" else "BATCH +")
        assert isinstance(await sending, Receipt)


async def test_nobody_is_shown_as_writing_once_tags_are_gone() -> None:
    async with entered("message-tags") as (alice, peer, _, _):
        writes = Typing(
            chat=RemoteChatId("#room"), is_typing=True,
            sender=Sender(user_id=user_id("Alice"), name="Alice"),
        )  # fmt: skip
        revoke(peer, "message-tags")
        await synced(peer)
        await alice.send_typing(writes)
        await synced(peer)
        assert not any("TAGMSG" in one for one in peer.heard)
