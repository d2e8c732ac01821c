"""Lines 64 and 101 at the start: whatever the homeserver says to our greeting, we work on."""

from pathlib import Path

import pytest

from bridge.matrix.client import PING_ERRORS, HomeserverClient, MatrixError
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ask, play
from tests.rigs.scripted_homeserver import Answer, Asked, Rule, refuse, scripted_homeserver
from tests.rigs.trestle import wait_until

PINGS = {
    "M_URL_NOT_SET": (400, "the registration has no url"),
    "M_UNKNOWN_TOKEN": (401, "does not know our as_token"),
    "M_FORBIDDEN": (403, "under another id"),
    "M_BAD_STATUS": (502, "the hs_token differs"),
    "M_CONNECTION_FAILED": (502, "the homeserver cannot reach us"),
    "M_CONNECTION_TIMEOUT": (504, "took too long"),
    "M_UNRECOGNIZED": (404, "404 M_UNRECOGNIZED"),
}
"""What a ping may end with, and what we make of it."""

ANSWERS = {
    "the homeserver cannot reach us": refuse(502, "M_CONNECTION_FAILED"),
    "asks for patience": refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms="soon", retry_after="x"),
    "answers": Answer(200, {"duration_ms": "quick"}),
}
"""What the state says, and the answer to the ping that makes it say so."""


def always(answer: Answer, *end: str) -> Rule:
    """A rule that gives this answer to every request whose path ends so."""

    def rule(asked: Asked) -> Answer | None:
        return answer if asked.parts[-len(end) :] == end else None

    return rule


@pytest.mark.parametrize("errcode", PINGS)
async def test_line_64_each_failure_of_a_ping_has_its_own_sentence(errcode: str) -> None:
    status, words = PINGS[errcode]
    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("made up")) as client,
    ):
        homeserver.rules.append(always(refuse(status, errcode), "ping"))
        with pytest.raises(MatrixError) as raised:
            await client.ping("trestle")
    assert words in PING_ERRORS.get(raised.value.errcode, str(raised.value))


@pytest.mark.parametrize("words", ANSWERS)
async def test_line_64_a_ping_that_fails_ends_nothing(
    database_settings: DatabaseSettings, folder: Path, words: str
) -> None:
    rule = always(ANSWERS[words], "ping")
    async with play(database_settings, folder, rules=[rule]) as stage:
        await wait_until(lambda: words in stage.app.parts.homeserver.words)
        assert await stage.put(ask("all the same")) == 200
        assert await stage.heard() == ["all the same"]


async def test_line_64_a_ping_that_succeeds_later_says_so(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    """Soon: Synapse fails once on each connection to one of us that was killed."""
    left = iter(range(5))

    def rule(asked: Asked) -> Answer | None:
        fails = asked.parts[-1] == "ping" and next(left, None) is not None
        return refuse(502, "M_CONNECTION_FAILED") if fails else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        await wait_until(lambda: "cannot reach us" in stage.app.parts.homeserver.words)
        await wait_until(lambda: stage.app.parts.homeserver.words == "answers")


async def test_line_101_a_registration_that_does_not_hold_our_names_is_said_to_be_so(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rule = always(refuse(400, "M_EXCLUSIVE"), "register")
    async with play(database_settings, folder, rules=[rule], greeted=False) as stage:
        await wait_until(lambda: "compare registration.yaml" in stage.app.parts.homeserver.words)
        assert stage.app.not_ready() is None
