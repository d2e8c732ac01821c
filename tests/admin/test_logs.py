"""What is written to the log, and what never is."""

import io
import json
import logging
import re
import subprocess
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from bridge.logs import hide
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.admin.logs import logged
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import trestle_program
from tests.rigs.trestle import Town, make_modules

TOKEN = "a-token-that-nobody-may-see"


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def log_exception(log: logging.Logger, error: Exception) -> None:
    """Have it raised and logged, as a module's failure is."""
    try:
        raise error  # noqa: TRY301 - So that it has a place.
    except Exception:
        log.exception("a module failed", extra={"event": "failed"})


def test_a_line_of_json_is_an_object_with_its_time_event_and_fields() -> None:
    with logged("json") as (log, output):
        log.info("it is %s", "so", extra={"event": "it_is_so", "count": 3, "who": None})
    (line,) = lines(output)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info", "logger": "bridge.somewhere", "event": "it_is_so",
        "message": "it is so", "count": 3, "who": None,
    }  # fmt: skip


def test_a_line_for_people_is_one_line_whatever_is_in_it() -> None:
    with logged("console") as (log, output):
        log.warning("one\nINFO two\r", extra={"event": "odd", "more": "a\nb"})
    text = output.getvalue()
    assert text.count("\n") == 1
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z WARNING one\\nINFO two\\r  \[odd more=", text)
    with logged("console") as (log, output):
        log.error("it failed", exc_info=TrestleError("one\nINFO two"), extra={"event": "odd"})
    assert output.getvalue().endswith("\n    TrestleError: one\\nINFO two\n")


def test_lines_below_the_level_and_the_chatter_of_libraries_are_left_out() -> None:
    with logged("json", "warning") as (log, output):
        log.info("not this")
        log.warning("but this")
    assert [line["message"] for line in lines(output)] == ["but this"]
    with logged("json", "debug") as (log, output):
        log.debug("this too")
        for library in ("aiohttp.client", "aiohttp.access", "asyncio", "asyncpg.pool"):
            logging.getLogger(library).info("PUT /_matrix/... body")
    assert [line["message"] for line in lines(output)] == ["this too"]


@pytest.mark.parametrize("format", ["console", "json"])
def test_tokens_are_masked_wherever_they_come(format: Literal["console", "json"]) -> None:
    hide(Secret(TOKEN))
    with logged(format) as (log, output):
        log.info("with %s in it", TOKEN, extra={"event": "x", "url": f"https://x/?y={TOKEN}"})
        log.info("GET /sync?access_token=first&x=1 Authorization: Bearer second-one")
        log.info('{"as_token": "third", "hs_token":"fourth", "password": "fifth"}')
        log.info("postgresql://trestle:sixth@db.example.org/trestle")
        log_exception(log, TemporaryFailure(f"refused {TOKEN} and password=seventh"))
    text = output.getvalue()
    words = (TOKEN, "first", "second-one", "third", "fourth", "fifth", "sixth", "seventh")
    assert [word for word in words if word in text] == []
    assert "db.example.org" in text
    assert "x=1" in text


@pytest.mark.parametrize("format", ["console", "json"])
def test_what_people_say_is_in_no_line_by_whatever_way(
    format: Literal["console", "json"],
) -> None:
    said = "what somebody said"
    fields = {name: said for name in ("body", "formatted_body", "content", "text", "topic")}
    with logged(format) as (log, output):
        log.info("an event", extra={"event": "x", **fields, "password": said, "token": said})
        failure = RuntimeError(said)
        failure.__cause__ = ValueError(said)
        log_exception(log, failure)
        log_exception(log, ExceptionGroup(said, [KeyError(said), OSError(said)]))
    text = output.getvalue()
    assert said not in text
    for name in ("RuntimeError", "ValueError", "ExceptionGroup", "KeyError", "OSError"):
        assert name in text
    assert "test_logs.py" in text  # The places are there.


@pytest.mark.parametrize("format", ["console", "json"])
def test_people_are_told_apart_by_a_hash_that_nobody_can_test_a_guess_against(
    format: Literal["console", "json"],
) -> None:
    alice, ghost, old = "@alice:example.org", "@_trestle_net_carl=21:[2001:db8::1]:8448", "@Äö:x"
    with logged(format) as (log, output):
        log.info("%s cannot join (%s)", alice, ghost, extra={"event": "x", "who": alice})
        log.info("PUT %s, of @alice:example.org.", "/profile/%40alice%3Aexample.org/displayname")
        log.warning("a mail to alice@example.org:25 and postgresql://u@db.example.org:5432/x")
        log_exception(log, TemporaryFailure(f"{ghost} is not there, {old}"))
    text = output.getvalue()
    assert [one for one in ("@alice", "%40alice", "carl", "2001:db8", "Ä") if one in text] == []
    found = re.findall(r"@[0-9a-f]{12}", text)
    assert len(found) >= 6
    assert found.count(found[0]) == 4  # Alice, however she is spelled.
    assert "alice@example.org:25" in text  # No Matrix id.
    assert "u@db.example.org:5432" in text
    here = "import bridge.logs as l; print(l.redact('@alice:example.org'))"
    runs = {run_python(here) for _ in range(2)}
    assert len(runs) == 2  # Each run has a key of its own.


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout


def test_a_line_that_cannot_be_made_names_its_place_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logged("json") as (log, output):
        log.info("%d", "what somebody said")
    assert output.getvalue() == ""
    shown = capsys.readouterr().err
    assert shown.startswith("a log line cannot be written: ")
    assert "test_logs.py" in shown
    assert "what somebody said" not in shown


async def test_a_whole_conversation_leaves_none_of_its_words_in_the_log(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    words = [f"sesame{number}open" for number in range(9)]
    async with run_ngircd("the-server-password") as irc:
        server = {"host": "127.0.0.1", "port": irc.port, "tls": False}
        options = {"servers": [server], "own_network": True, "password": "the-server-password"}
        modules = make_modules({"near": ("irc", options), "dice": ("dice", {})})
        settings = town.settings_for(folder, database_settings, modules=modules)
        logging_settings = {"format": "json", "level": "debug"}
        async with (
            trestle_program(settings, folder, logging=logging_settings) as program,
            irc_user(irc.port, "carl", "the-server-password") as carl,
        ):
            await carl.join("#talk")
            alice = await town.person("alice")
            room = await alice.create_room(preset="public_chat", name=words[0], topic=words[1])
            dice = "@_trestle_dice:test.example"
            for bot in ("@trestle:test.example", dice):
                await alice.invite(room, bot)
                await alice.wait_until(partial(_sent, alice.events, bot))
            await alice.say(room, "!trestle bridge near #talk")
            await alice.wait_for_text(room, "This room is bridged")
            await alice.say(room, words[2], f"<b>{words[3]}</b>")
            await carl.expect("PRIVMSG #talk", words[3])
            carl.say(f"PRIVMSG #talk :{words[4]}", f"TOPIC #talk :{words[5]}")
            await alice.wait_for_text(room, words[4])
            await alice.say(room, f"!choose {words[6]}, {words[6]}")
            await alice.wait_until(lambda: bool(alice.heard(room, dice)))
            await alice.send(room, {"msgtype": "m.image", "body": words[7], "url": "mxc://x/y"})
            await alice.wait_for_text(room, "Your message did not reach #talk")
            await alice.say(room, f"!trestle {words[8]}")
            await alice.wait_for_text(room, "I do not know")
    log = program.log_text()
    assert "item_parked" in [json.loads(line)["event"] for line in log.splitlines()]
    secrets = [
        settings.appservice.as_token.reveal(), settings.appservice.hs_tokens[0].reveal(),
        "the-server-password",
    ]  # fmt: skip
    assert [one for one in (*words, *secrets) if one in log] == []
    people = [alice.id, alice.id[1:].partition(":")[0], "carl"]
    assert [one for one in people if one in log] == []


def _sent(events: list[dict[str, Any]], sender: str) -> bool:
    return any(event["sender"] == sender for event in events)
