"""What is a spoiler in Matrix, where a network is told of it in plain text."""

from typing import Any

import pytest

from bridge import sdk
from bridge.app import App
from bridge.sdk.rich import Style, Styled, Text
from tests.flow.networks import Modules
from tests.flow.rooms import bridge, react, reply
from tests.rigs.trestle import Town
from tests.rigs.vivid_bridge import Vivid


@pytest.fixture
def modules(vivid: Vivid) -> Modules:
    """A network that can do all there is, if it is let."""
    return {"near": ("vivid", {})}


def spoiling(secret: str) -> dict[str, Any]:
    """A message that hides something until its reader wishes to see it."""
    return {
        "msgtype": "m.text",
        "body": f"it was {secret}, I say",
        "format": "org.matrix.custom.html",
        "formatted_body": f"it was <span data-mx-spoiler>{secret}</span>, I say",
    }


async def test_a_spoiler_is_in_no_quotation_and_in_no_change_that_is_said_in_words(
    town: Town, app: App, vivid: Vivid
) -> None:
    vivid.levels = {"edits": 0, "replies": 0, "reactions": 0}
    vivid.limits = {"quote_after": 0}
    alice = await town.person("alice")
    room = await bridge(alice, "hall")
    first = await alice.send(room, spoiling("the cook"))
    await alice.say(room, "well")
    await vivid.wait_until(lambda network: len(network.done) == 2)
    await reply(alice, room, first, "really?")
    await alice.say(room, "well")
    await react(alice, room, first, "👍")
    await vivid.wait_until(lambda network: len(network.done) == 5)
    new = spoiling("the butler")
    relation = {"rel_type": "m.replace", "event_id": first}
    await alice.send(room, {**new, "m.new_content": new, "m.relates_to": relation})
    # Neither what changes nothing nor what is not hidden has it said again.
    think = {key: value.replace("say", "think") for key, value in new.items()}
    for same in (new, think):
        await alice.send(room, {**same, "m.new_content": same, "m.relates_to": relation})
    plain = {"msgtype": "m.text", "body": "it was nobody, I think"}
    await alice.send(room, {**plain, "m.new_content": plain, "m.relates_to": relation})
    await vivid.wait_until(lambda network: len(network.done) == 8)
    quoted = '"it was [spoiler], I say"'
    assert vivid.texts()[2:] == [
        f"{alice.id[1:].partition(':')[0]} ({quoted}): really?",
        "well",
        f"reacted with 👍 to {quoted}",
        "* it was the butler, I say",
        "s/say/think/",
        "s/[spoiler],/nobody,/",
    ]
    # All of it is said again, and what is hidden stays so.
    changed = vivid.done[5]
    assert isinstance(changed, sdk.Message)
    assert Styled(Style.SPOILER, (Text("the butler"),)) in changed.body.nodes
