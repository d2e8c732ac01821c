"""Whom somebody ignores in Matrix gets into none of their private chats, whoever is away."""

import asyncio
from pathlib import Path

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.flow.firstwords import says, scene
from tests.flow.rooms import ghost
from tests.flow.scripted import ANN
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_homeserver import Answer, Asked, refuse


class List:
    """Whom ann ignores, as the homeserver answers. Whatever token it is asked with, it is hers."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self, asked: Asked) -> Answer | None:
        if asked.parts[-1:] == ("whoami",):
            return Answer(content={"user_id": ANN})
        if asked.parts[-1:] != ("m.ignored_user_list",):
            return None
        self.asked += 1
        return self.answer


def ignoring(*users: str) -> Answer:
    return Answer(content={"ignored_users": {user: {} for user in users}})


AWAY = refuse(502, "M_UNKNOWN")
NOT_KNOWING_US = refuse(401, "M_UNKNOWN_TOKEN")


@pytest.mark.parametrize("away", [AWAY, NOT_KNOWING_US])
async def test_nobody_is_let_through_before_it_is_known_whom_a_person_ignores_and_nothing_is_lost(
    database_settings: DatabaseSettings, folder: Path, away: Answer
) -> None:
    ignored = List(away)
    async with (
        scene(database_settings, folder, ignored) as here,
        irc_user(here.irc.port, "dora") as dora,
    ):
        homeserver, doubles = here.stage.homeserver, here.stage.app.parts.double_puppets
        await doubles.switch_on(ANN)
        here.whisper("not for her")
        await homeserver.wait_until(lambda: ignored.asked >= 2)
        assert not here.made
        ignored.answer = ignoring(ghost("carl"))
        dora.say(f"PRIVMSG {here.nick} :hello")
        chat = await here.wait_for_chat("dora")
        await homeserver.wait_until(says(here, chat, "hello"))
        assert here.made == [chat]
        # After a restart it is not known either, though the chat is there.
        doubles._ignored.clear()
        ignored.answer, before = away, ignored.asked
        dora.say(f"PRIVMSG {here.nick} :and again")
        await homeserver.wait_until(lambda: ignored.asked >= before + 2)
        assert not says(here, chat, "and again")()
        ignored.answer = ignoring()
        await homeserver.wait_until(says(here, chat, "and again"))


@pytest.mark.parametrize(
    ("status", "errcode"),
    [(403, "M_FORBIDDEN"), (401, "M_UNKNOWN_TOKEN"), (404, "M_NOT_FOUND")],
)
async def test_a_homeserver_that_does_not_say_it_to_us_keeps_nobody_waiting(
    database_settings: DatabaseSettings, folder: Path, status: int, errcode: str
) -> None:
    ignored = List(refuse(status, errcode))
    async with scene(database_settings, folder, ignored) as here:
        doubles = here.stage.app.parts.double_puppets
        is_her_token = errcode == "M_UNKNOWN_TOKEN"
        await (
            doubles.take_token(ANN, Secret("a token of hers"))
            if is_her_token
            else doubles.switch_on(ANN)
        )
        here.whisper("hello")
        async with asyncio.timeout(PATIENCE):
            chat = await here.wait_for_chat()
        await here.stage.homeserver.wait_until(says(here, chat, "hello"))
        assert ignored.asked == 1
        assert (await doubles.leave_of(ANN) is None) is is_her_token
