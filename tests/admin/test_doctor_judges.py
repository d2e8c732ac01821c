"""The doctor's judgements: facts in, sentences out, without any server."""

import re
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.config import read_settings
from bridge.doctor import doctor
from bridge.doctor.clocks import difference_by_header, judge_clocks
from bridge.doctor.database import judge
from bridge.doctor.keys import judge_days, judge_master_key
from bridge.doctor.listeners import examine_listeners, reach_hints
from bridge.doctor.permissions import examine_permissions
from bridge.doctor.ping import explain
from bridge.doctor.registration import newest_of
from bridge.doctor.state import judge_backup, judge_space
from bridge.doctor.surroundings import is_container
from bridge.matrix.client import PING_ERRORS, MatrixError
from bridge.sdk.errors import ConfigError
from bridge.sdk.examination import Remark
from bridge.sdk.secret import Secret
from bridge.settings.records import Address, AppserviceSettings
from bridge.storage.backup import last_backup
from bridge.storage.inspection import Facts, Looked
from tests.admin.documents import changed

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GOOD = Facts(
    version="16.2 (Debian 16.2-1)", encoding="UTF8", difference=0.0, size=9 << 20,
    data_directory=None, is_standby=False, survives_power_cuts=True, in_use=False,
    login="trestle", is_superuser=False, connections=-1, missing_roles=(), refused_roles=(),
    may_make_roles=False, may_make_tables=True, unbound_roles=(), schema=7, newest_schema=7,
    tables=("journal",),
)  # fmt: skip


def said(remarks: "list[Remark] | tuple[Remark, ...]", level: str) -> list[str]:
    return [one.sentence for one in remarks if one.level == level]


# --- the database ---


def test_a_good_database_is_one_sentence() -> None:
    assert judge(Looked(GOOD, [], False), is_running=False, is_embedded=False) == [
        Remark("ok", "Postgres 16.2 answers (9 MB), the schema is up to date, the audit is whole")
    ]


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (replace(GOOD, is_standby=True), "bad", "is a standby, which is read-only; name the pri"),
        (replace(GOOD, schema=3), "note", "an older Trestle's (schema 3); the next start brings"),
        (replace(GOOD, schema=8), "bad", "made by a newer Trestle; this one knows up to 7"),
        (replace(GOOD, schema=None), "bad", "may not read the table schema_version"),
        (replace(GOOD, survives_power_cuts=False), "note", "a power cut can lose events"),
        (replace(GOOD, in_use=True), "bad", "another Trestle, with another state_dir"),
        (replace(GOOD, encoding="LATIN1"), "bad", "is encoded in LATIN1"),
        (replace(GOOD, connections=15), "bad", "the role trestle may have 15 connections"),
    ],
)
def test_each_fault_of_a_database_is_a_sentence(facts: Facts, level: str, words: str) -> None:
    found = judge(Looked(facts, [], False), is_running=False, is_embedded=False)
    assert [words in one for one in said(list(found), level)] == [True]
    # What is bad is not called well in the same breath.
    assert bool(said(list(found), "ok")) is (level == "note")


def test_the_one_that_runs_may_use_the_database() -> None:
    found = judge(Looked(replace(GOOD, in_use=True), [], False), is_running=True,
                  is_embedded=False)  # fmt: skip
    assert said(list(found), "bad") == []


def test_of_many_faults_of_the_audit_the_first_is_named_and_the_rest_counted() -> None:
    faults = ["row 3 of the audit was changed", "row 5 of the audit is missing", "and so on"]
    found = judge(Looked(GOOD, faults, False), is_running=False, is_embedded=False)
    (sentence,) = said(list(found), "bad")
    assert sentence.startswith("row 3 of the audit was changed, and 2 more: somebody changed")


# --- the clocks ---


@pytest.mark.parametrize(
    ("database", "homeserver", "level", "words"),
    [
        (0.2, -0.9, "ok", "this machine's clock agrees with the database's and the homeserver's"),
        (None, 1.0, "ok", "this machine's clock agrees with the homeserver's"),
        (None, None, "note", "no other clock could be asked"),
        (-30.0, -31.0, "note", "this machine's clock is 30 s ahead of those of the database and"),
        (90.0, 91.0, "bad", "this machine's clock is 90 s behind those of the database and"),
        (90.0, 0.0, "bad", "the clock of the database is 90 s ahead of ours"),
        (0.0, -9000.0, "bad", "the clock of the homeserver is 2.5 hours behind ours"),
        (-3600.0, None, "bad", "the clock of the database is 3600 s behind ours"),
    ],
)
def test_it_is_said_whose_clock_is_off(
    database: float | None, homeserver: float | None, level: str, words: str
) -> None:
    (remark,) = judge_clocks({"the database": database, "the homeserver": homeserver})
    assert remark.level == level
    assert words in remark.sentence


def test_two_clocks_that_are_off_differently_are_both_named() -> None:
    found = judge_clocks({"the database": 90.0, "the homeserver": -90.0})
    assert [one.sentence.partition(" ours")[0] for one in found] == [
        "the clock of the database is 90 s ahead of",
        "the clock of the homeserver is 90 s behind",
    ]


def test_the_time_in_an_answer_is_compared_with_the_middle_of_the_wait() -> None:
    date = "Mon, 04 May 2026 12:00:10 GMT"
    assert difference_by_header(date, NOW, NOW + timedelta(seconds=1)) == 10.0
    assert difference_by_header(None, NOW, NOW) is None
    assert difference_by_header("yesterday", NOW, NOW) is None


# --- the state directory ---


def test_the_age_of_the_last_backup_is_told(folder: Path) -> None:
    assert last_backup(folder) is None
    (folder / "last-backup").write_text('{"at": "2026-05-03T12:00:00+00:00"}')
    made = last_backup(folder)
    assert judge_backup(made, NOW) == Remark("ok", "the last backup is one day old")
    assert judge_backup(NOW, NOW) == Remark("ok", "the last backup is from today")
    old = judge_backup(NOW - timedelta(days=40), NOW)
    assert old == Remark("note", "the last backup is 40 days old; `trestle backup FILE` makes one")
    (folder / "last-backup").write_text("{")
    assert last_backup(folder) is None


@pytest.mark.parametrize(("megabytes", "level"), [(99, "bad"), (1000, "note"), (2000, "")])
def test_a_disk_is_full_before_it_is(megabytes: int, level: str) -> None:
    found = judge_space("state_dir", Path("/var/lib/trestle"), megabytes << 20)
    assert [one.level for one in found] == [level] * bool(level)


def test_the_keys_of_two_days_are_there_while_it_runs(folder: Path) -> None:
    (folder / "2026-05-04").write_bytes(b"")
    (missing,) = judge_days(folder, NOW.date(), is_running=True)
    assert "the key of 2026-05-05 is missing" in missing.sentence
    assert judge_days(folder, NOW.date(), is_running=False) == []
    (folder / "2026-05-05").write_bytes(b"")
    assert judge_days(folder, NOW.date(), is_running=True) == []


def test_secrets_without_their_key_are_bad(folder: Path) -> None:
    (wrong,) = judge_master_key(folder, {}, has_secrets=True)
    assert wrong.level == "bad"
    assert judge_master_key(folder, {}, has_secrets=False) == []
    assert judge_master_key(folder, {"TRESTLE_MASTER_KEY": "x"}, has_secrets=True) == []
    (folder / "keys").mkdir()
    (folder / "keys" / "master").write_text("x")
    assert judge_master_key(folder, {}, has_secrets=True) == []


# --- the homeserver's way to us ---


def appservice(listen: str, url: str) -> AppserviceSettings:
    host, _, port = listen.rpartition(":")
    return AppserviceSettings(
        listen=Address(host.strip("[]"), int(port)), url=url, as_token=Secret("a"),
        hs_tokens=(Secret("b"),), sender_localpart="x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("listen", "url", "inside", "words"),
    [
        ("127.0.0.1:29333", "http://127.0.0.1:29333", False, ()),
        ("0.0.0.0:29333", "http://trestle:29333", True, ()),
        ("[::]:29333", "http://10.0.0.5:29333", False, ()),
        ("127.0.0.1:29333", "http://trestle:29333", True, ("only this container itself",)),
        ("127.0.0.1:29333", "http://10.0.0.5:29333", False, ("which only this machine reach",)),
        ("0.0.0.0:29333", "http://127.0.0.1:29333", True, ("homeserver's own container",)),
        ("0.0.0.0:29333", "http://[fd00::5]:29333", False, ("one is IPv4, the other IPv6",)),
        ("127.0.0.1:29333", "http://localhost:29333", False, ("localhost may be ::1 there",)),
        ("127.0.0.1:29333", "http://127.0.0.1", False, ("the port 80, but appservice.listen 2",)),
        ("127.0.0.1:443", "https://127.0.0.1", False, ("Trestle itself speaks plain HTTP",)),
    ],
)
def test_what_may_be_in_the_way_is_guessed_from_the_settings(
    listen: str, url: str, inside: bool, words: tuple[str, ...]
) -> None:
    hints = reach_hints(appservice(listen, url), in_container=inside)
    assert len(hints) == len(words), hints
    assert all(word in hint for word, hint in zip(words, hints, strict=True))


@pytest.mark.parametrize("errcode", sorted(PING_ERRORS))
def test_each_error_of_a_ping_has_a_sentence_of_its_own(errcode: str) -> None:
    error = MatrixError(502, errcode, "as the test says", content={"status": 418})
    sentence = explain(error, appservice("127.0.0.1:1", "http://x"), ["it is a guess"])
    assert len(sentence) > 50
    assert errcode not in sentence
    if errcode.startswith("M_CONNECTION"):
        assert sentence.endswith("It says: as the test says. Perhaps it is a guess.")


async def test_the_web_is_looked_at_as_the_other_listeners_are(folder: Path) -> None:
    document = changed("ops", {"listen": None})
    document["web"] = {"manager_url": "https://a.example.org", "listen": "127.0.0.1:0"}
    settings = read_settings(document, folder=folder)
    found = await examine_listeners(settings, None, is_running=False, in_container=True)
    assert any("web.listen is 127.0.0.1:0, which only this" in one.sentence for one in found)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        document["web"]["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = read_settings(document, folder=folder)
        with pytest.raises(ConfigError, match=r"web\.listen"):
            await examine_listeners(settings, None, is_running=False, in_container=False)


def test_two_listeners_at_one_place_are_refused(folder: Path) -> None:
    for place in ("127.0.0.1:29333", "0.0.0.0:29333"):
        with pytest.raises(ConfigError, match=r"is where appservice\.listen listens"):
            read_settings(changed("ops/listen", place), folder=folder)
        document = changed("web", {"public_url": "https://b.example.org", "public_listen": place})
        with pytest.raises(ConfigError, match=r"web\.public_listen: is where"):
            read_settings(document, folder=folder)


def test_a_container_is_told_by_its_groups() -> None:
    assert is_container("12:pids:/docker/0123456789abcdef\n")
    assert is_container("0::/kubepods.slice/kubepods-besteffort.slice\n")
    assert not is_container("0::/init.scope\n")


def test_the_newest_version_is_found_among_old_names() -> None:
    assert newest_of(["r0.6.1", "v1.9", "v1.13", "v1.2"]) == (1, 13)
    assert newest_of(["r0.6.1", "unstable"]) == (0, 0)


# --- who may what ---


@pytest.mark.parametrize(
    ("written", "level", "words"),
    [
        ({"@me:ex.org": "admin"}, "ok", "admin: @me:ex.org; anyone not named is user on "
         "example.org and none elsewhere"),
        ({"*": "none", "@me:example.org": "admin"}, "ok", "is none on example.org and none else"),
        ({"*": "relay", "example.org": "user"}, "note", "is user on example.org and relay elsew"),
        ({"*": "relay", "Example.ORG": "user"}, "note", "is user on example.org and relay els"),
        ({"*": "admin"}, "note", "no admin: nobody is invited to a status room when something is "
         "wrong, nor can answer for `rooms`; name an admin in permissions, `'@you:example.org': "),
    ],
)  # fmt: skip
def test_the_admins_are_named_and_what_everybody_else_may(
    folder: Path, written: dict[str, str], level: str, words: str
) -> None:
    found = examine_permissions(read_settings(changed("permissions", written), folder=folder))
    assert found.level == level
    assert words in found.sentence


# --- its page ---


def test_each_check_has_its_place_on_the_page() -> None:
    source = Path(doctor.__file__).read_text()
    checks = re.findall(r' check\(\s*"(\w+)"', source)
    page = (Path(__file__).parents[2] / "docs/how-to/doctor.md").read_text()
    assert sorted(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == sorted({"settings", *checks})
    assert [code for code in PING_ERRORS if f"`{code}`" not in page] == []
