"""A message that may have been sent: sent again or held, as the room chose; its sender is told."""

import asyncio
import json
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.failpoint import VARIABLE
from bridge.settings.records import Settings
from tests.flow.rooms import bridge, reply
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.trestle import Town


async def test_a_room_that_holds_gets_no_doubles_and_its_people_hear_what_may_be_missing(
    town: Town,
    folder: Path,
    irc: IrcServer,
    settings: Settings,
) -> None:
    async with irc_user(irc.port, "watcher") as watcher:
        await watcher.join("#held")
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            room = await bridge(alice, "#held")
            await alice.say(room, "!trestle set")
            shown = await alice.wait_for_text(room, "uncertain: resend (resend or hold")
            lines = shown["content"]["body"].splitlines()
            assert "members: default, here speakers (" in lines[3]
            assert "puppets: default, here automatic (" in lines[5]
            assert lines[-1] == "To change one, say for example !trestle set members full"
            await alice.say(room, "!trestle set uncertain hold")
            await alice.wait_for_text(room, "uncertain is hold for #held on near now")
            await alice.say(room, "before")
            await watcher.expect(":before")
            event = await _killed_on(trestle, alice, room, "in doubt")
            notice = await alice.wait_for_text(room, "may not have reached #held on near")
            assert notice["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event
            traced = await trestle.ask("trace", event, "--json")
            assert [step["what"] for step in json.loads(traced)] == ["received", "parked"]
            await alice.say(room, "after")
            await watcher.expect(":after")
            assert not any("in doubt" in line for line in watcher.heard)
            # It is still there for whoever wants it sent.
            (parked,) = await trestle.parked()
            await trestle.ask("parked", "retry", parked["name"])
            await watcher.expect(":in doubt")
            await alice.say(room, "!trestle set telling reaction")
            await alice.wait_for_text(room, "telling is reaction")
            event = await _killed_on(trestle, alice, room, "in doubt again")
            await alice.wait_until(
                lambda: _reactions(alice, event) == ["\N{BLACK QUESTION MARK ORNAMENT}"]
            )


async def test_who_said_it_can_ask_where_it_is(
    town: Town,
    folder: Path,
    settings: Settings,
    carl: IrcUser,
) -> None:
    await carl.join("#where")
    async with trestle_program(settings, folder) as trestle:
        alice, bea = await town.person("alice"), await town.person("bea")
        room = await bridge(alice, "#where")
        await bea.join(room)
        event = await alice.say(room, "find me")
        await carl.expect(":find me")
        carl.say("PRIVMSG #where :from the network")
        heard = await alice.wait_for_text(room, "from the network")
        # The server says a moment later than to the others that it has it.
        async with asyncio.timeout(PATIENCE):
            while "confirmed" not in await trestle.ask("trace", event, "--json"):
                pass
        await reply(alice, room, event, "!trestle where")
        answer = (await alice.wait_for_text(room, " confirmed: "))["content"]["body"]
        assert [line.split()[2].rstrip(":") for line in answer.splitlines()] == [
            "received", "laned", "sent", "confirmed",
        ]  # fmt: skip
        assert "#where on near" in answer
        # With the quotation that older clients write, and of another's message.
        await reply(bea, room, event, f"> <{alice.id}> find me\n\n!trestle where")
        await alice.wait_for_text(room, "you need the power to change this room's settings")
        await alice.say(room, "!trestle where")
        await alice.wait_for_text(room, "say it as a reply")
        steps = json.loads(await trestle.ask("trace", heard["event_id"], "--json"))
        assert [step["what"] for step in steps] == ["received", "confirmed"]
        remote_id = steps[0]["detail"].rpartition(" ")[2]
        assert json.loads(await trestle.ask("trace", remote_id, "--json")) == steps
        assert "nothing is known of it" in await trestle.ask("trace", "$nothing", code=1)
    # And without the running program.
    steps = json.loads(await trestle.ask("trace", event, "--json"))
    assert [step["what"] for step in steps] == ["received", "laned", "sent", "confirmed"]


async def _killed_on(trestle: TrestleProgram, alice: MatrixUser, room: str, text: str) -> str:
    """Have Trestle killed when it has begun to bring the text over; it runs again after that."""
    await trestle.program.stop(limit=25)
    trestle.env[VARIABLE] = "started:1"
    await trestle.start()
    event = await alice.say(room, text)
    await trestle.wait_until_ended()
    del trestle.env[VARIABLE]
    await trestle.start()
    return event


def _reactions(person: MatrixUser, event: str) -> list[str]:
    found = [e["content"]["m.relates_to"] for e in person.events if e["type"] == "m.reaction"]
    return [one["key"] for one in found if one["event_id"] == event]
