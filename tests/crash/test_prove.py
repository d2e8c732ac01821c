"""``trestle prove`` as an admin runs it (prove.md); and that its comparison sees what is wrong."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.prove.ledgers import Arrival, Ledgers, Line, Outage, Word, compare, lacks
from bridge.prove.report import report
from bridge.prove.run import Outcome, Size
from bridge.prove.script import turns
from tests.admin.commands import run_program
from tests.demo.program import demo

ROOM = "!room"


async def test_it_proves_writes_a_report_and_leaves_nothing(folder: Path) -> None:
    file, scratch = folder / "proof.md", folder / "scratch"
    scratch.mkdir()
    options = ("--minutes", "0.1", "--seed", "11", "--report", str(file))
    async with demo(scratch, *options, command="prove") as running:
        code = await running.wait_until_ended()
        assert code == 0, "\n".join(running.said)
        assert running.started() == []
    text = file.read_text()
    assert "**It holds:" in text
    assert "Seed 11;" in text
    assert "| the module was shown every line |" in text
    assert any("database stopped" in one or "killed" in one for one in running.said)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("irc", ["miniircd", "ngircd"])
def test_a_report_names_the_irc_server_that_there_was(irc: str) -> None:
    nothing = Outcome(
        size=Size(seed=1), ledgers=Ledgers(), faults=[], places=set(), findings=[], seconds=1,
        settled=0,
    )  # fmt: skip
    said = report(nothing, irc)
    assert f", {irc}" in said
    assert ("miniircd" in said) is (irc == "miniircd")


async def test_ctrl_c_ends_all_of_it_and_proves_nothing(folder: Path) -> None:
    file, scratch = folder / "proof.md", folder / "scratch"
    scratch.mkdir()
    async with demo(scratch, "--report", str(file), command="prove") as running:
        await running.read_until(" said ")
        assert len(running.started()) >= 4  # IRC, Synapse, Trestle, Postgres.
        running.process.send_signal(signal.SIGINT)
        assert await running.wait_until_ended() == 130, running.said
        assert running.started() == []
    assert not file.exists()
    assert list(scratch.iterdir()) == []


def test_what_is_not_installed_is_named_with_the_way_out(tmp_path: Path) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import sys\nsys.modules['synapse'] = None\n")
    env = {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    refused = run_program("prove", "--report", str(tmp_path / "x.md"), env=env)
    assert refused.code == 2
    assert "pip install 'matrix-trestle[demo]'" in refused.errors


def test_a_report_that_could_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    refused = run_program("prove", "--report", str(tmp_path / "nowhere" / "x.md"))
    assert refused.code == 2
    assert "nowhere is no folder" in refused.errors


# --- the comparison ---


def good() -> Ledgers:
    """Ledgers in which all is well: three lines and a word, a line doubled and flagged."""
    lines = [
        Line(text=text, room=ROOM, event_id=f"${text}", asks=text == "c")
        for text in ("a", "b", "c")
    ]
    texts = [line.text for line in lines]
    return Ledgers(
        lines=lines,
        words=[Word(text="w", room=ROOM, at=5.0)],
        bridged={ROOM},
        shown={ROOM: ["a", "b", "b", "c"]},
        seen={ROOM: ["a", "w", "b", "b", "c"]},
        held={ROOM: ["a", "w", "b", "c"]},
        held_ids={line.event_id for line in lines},
        flagged={"$b"},
        answers={ROOM: ["c"]},
        arrivals={ROOM: [Arrival(text=text, fetched=False) for text in texts]},
        outages=[Outage(began=100.0, ended=101.0)],
        ends=1,
    )


def broken(ledgers: Ledgers) -> list[str]:
    """The claims that do not hold."""
    return [finding.claim for finding in compare(ledgers) if not finding.holds]


def test_ledgers_that_agree_break_no_claim() -> None:
    assert broken(good()) == []
    assert lacks(good()) == []


WRONG: dict[str, dict[str, Any]] = {
    "the homeserver kept what it accepted": {"held_ids": {"$a", "$b"}},
    "the module was shown every line": {"shown": {ROOM: ["a", "c"]}},
    "the module was shown none of them again later": {"shown": {ROOM: ["a", "b", "c", "a"]}},
    "the module was shown them in the order of the room": {"shown": {ROOM: ["b", "a", "c"]}},
    "IRC saw every line": {"seen": {ROOM: ["a", "w", "b"]}},
    "IRC saw none twice, but for what was on its way at a kill": {"ends": 0},
    "those whose lines are doubled were told so": {"flagged": set()},
    "IRC saw them in the order of the room": {"seen": {ROOM: ["b", "w", "a", "c"]}},
    "Matrix holds every word from IRC": {"held": {ROOM: ["a", "b", "c"]}},
    "Matrix holds none of them twice": {"held": {ROOM: ["a", "w", "w", "b", "c"]}},
    "every question was answered": {"answers": {}},
    "no question was answered twice": {"answers": {ROOM: ["c", "c"]}},
    "nothing is parked": {"parked": ["portal:1: failed"]},
}


@pytest.mark.parametrize("claim", list(WRONG))
def test_what_is_wrong_breaks_its_claim(claim: str) -> None:
    assert broken(replace(good(), **WRONG[claim])) == [claim]


def test_a_line_seen_again_later_is_no_resending() -> None:
    seen = {ROOM: ["a", "b", "w", "c", "a"]}
    assert broken(replace(good(), seen=seen, flagged={"$a"})) == [
        "IRC saw none twice, but for what was on its way at a kill"
    ]


def test_the_order_is_that_in_which_we_were_handed_them() -> None:
    arrivals = {ROOM: [Arrival(text=text, fetched=False) for text in ("b", "a", "c")]}
    late = replace(
        good(), arrivals=arrivals, shown={ROOM: ["b", "a", "c"]}, seen={ROOM: ["b", "w", "a", "c"]}
    )
    assert broken(late) == []


def test_what_we_fetched_must_not_overtake_what_had_not_come() -> None:
    arrivals = {ROOM: [Arrival(text=text, fetched=text == "b") for text in ("b", "a", "c")]}
    late = replace(
        good(), arrivals=arrivals, shown={ROOM: ["b", "a", "c"]}, seen={ROOM: ["b", "w", "a", "c"]}
    )
    assert broken(late) == [
        "the module was shown them in the order of the room",
        "IRC saw them in the order of the room",
    ]


def test_a_word_said_while_nobody_of_ours_listened_is_no_loss() -> None:
    gone = replace(good(), held={ROOM: ["a", "b", "c"]})
    assert broken(replace(gone, words=[Word(text="w", room=ROOM, at=100.5)])) == []
    assert lacks(gone) == ["w"]


def test_a_seed_says_the_same_again_and_no_text_twice() -> None:
    first = [turn for turn, _ in zip(turns(7, "alice", 4), range(200), strict=False)]
    again = [turn for turn, _ in zip(turns(7, "alice", 4), range(200), strict=False)]
    assert first == again
    texts = [said.text for turn in first for said in turn.said]
    assert len(set(texts)) == len(texts)
    assert all(len(text.encode()) < 400 for text in texts)  # One line of IRC.
    assert {said.place for turn in first for said in turn.said} == {0, 1, 2, 3}
