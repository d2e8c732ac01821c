"""``trestle doctor``: all is well, before the first start, while it runs and after; its forms.

What is said when something is wrong is in ``test_doctor_misconfigured.py``.
"""

import asyncio
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import free_port
from bridge.doctor import Doctor, Finding, Surroundings
from bridge.matrix.registration import random_token
from bridge.settings.records import Address, DatabaseSettings, OpsSettings, Settings
from bridge.storage.inspection import runs_in
from tests.admin.commands import read_yaml, run_program, trestle
from tests.admin.conftest import Installation
from tests.rigs.cluster import Cluster
from tests.rigs.program import trestle_program
from tests.rigs.yaml import dump

CHECKS = [
    "state_dir", "keys", "permissions", "modules", "registration", "database", "clocks",
    "listener", "homeserver", "token", "accounts", "namespaces", "device_id", "double_puppets",
    "ephemeral", "ping",
]  # fmt: skip
RIG = {"bad": [], "note": ["database", "database"]}
"""Of the tests' own Postgres: its superuser connects, and it does not wait for the disk."""


@pytest.fixture
def here(installation: Installation, folder: Path) -> Path:
    """A copy of the installation's files, to be spoilt."""
    for name in ("config.yaml", "registration.yaml"):
        shutil.copy(installation.folder / name, folder / name)
    return folder


async def examine(settings: Settings, folder: Path) -> list[Finding]:
    here = Surroundings(in_container=False)
    return await Doctor(settings, folder / "registration.yaml", here).examine()


def by_level(findings: list[Finding]) -> dict[str, list[str]]:
    """The checks that found something, by level."""
    return {
        level: [one.check for one in findings if one.level == level]
        for level in ("ok", "note", "bad")
    }


def sentences(findings: list[Finding]) -> dict[str, str]:
    return {one.check: one.sentence for one in findings if one.level == "ok"}


# --- before the first start, while it runs, and after ---


async def test_a_fresh_installation_is_well_and_nothing_is_made_of_it(
    installation: Installation, cluster: Cluster, here: Path
) -> None:
    database = await cluster.fresh()
    document = read_yaml(here / "config.yaml")
    document["database"]["url"] = database.url
    (here / "config.yaml").write_text(dump(document))
    before = sorted(here.iterdir())
    well = await asyncio.to_thread(run_program, "doctor", "-c", here / "config.yaml")
    assert well.code == 0, well.said
    lines = [line.split()[:2] for line in well.output.splitlines()]
    assert [check for mark, check in lines if mark == "ok"] == [f"{one}:" for one in CHECKS]
    assert [check for mark, check in lines if mark != "ok"] == ["database:", "database:"]
    assert "the first start makes the tables" in well.output
    assert "Trestle is not running" in well.output.splitlines()[-1]

    assert sorted(here.iterdir()) == before
    connection = await asyncpg.connect(database.url)
    try:
        made = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert await connection.fetchval(made) == 0
    finally:
        await connection.close()


async def test_one_that_runs_is_well_and_not_disturbed(
    installation: Installation, cluster: Cluster, here: Path
) -> None:
    settings = replace(installation.settings(), database=await cluster.fresh())
    async with trestle_program(settings, here) as running, aiohttp.ClientSession() as session:
        settings = replace(
            settings, ops=OpsSettings(listen=Address("127.0.0.1", running.ops_port))
        )
        alice = await MatrixUser(session, installation.synapse.url, "alice").register()
        room = await alice.create_room()
        await alice.invite(room, "@_trestle_dice:test.example")
        await alice.wait_until(lambda: _joined(alice, "@_trestle_dice:test.example"))
        await alice.say(room, "!flip")
        await alice.wait_until(lambda: len(alice.heard(room)) >= 2)
        held = await _lease(settings)

        findings = await examine(settings, installation.folder)
        wanted = {**RIG, "ok": CHECKS, "note": [*RIG["note"], "backup"]}
        assert by_level(findings) == wanted, findings
        said = sentences(findings)
        assert said["database"].endswith("the schema is up to date, the audit is whole")
        assert said["listener"] == f"the running Trestle listens at {settings.appservice.listen}"
        assert said["device_id"].startswith("device_id masquerading works")
        assert "is not running" not in said["ping"]

        assert await _lease(settings) == held
        await alice.say(room, "!flip")
        await alice.wait_until(lambda: len(alice.heard(room)) >= 4)
        assert running.program.exit_code is None
    assert "the database is away" not in running.log_text()

    after = by_level(await examine(settings, installation.folder))
    assert after == wanted
    await _spoil_rows(settings)
    (settings.state_dir / "keys" / "master").unlink(missing_ok=True)
    spoilt = await examine(settings, installation.folder)
    wrong = [one.sentence for one in spoilt if one.level == "bad"]
    assert wrong[0].startswith("row 1 of the audit was changed: somebody changed the database")
    assert wrong[1].startswith("the vault holds secrets, and there is neither")
    assert "put the key back" in wrong[1]
    assert len(wrong) == 2


async def _lease(settings: Settings) -> asyncpg.Record | None:
    connection = await asyncpg.connect(settings.database.url)
    try:
        return await connection.fetchrow("SELECT epoch, owner FROM lease")
    finally:
        await connection.close()


async def _spoil_rows(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.database.url)
    try:
        await connection.execute(
            "INSERT INTO audit (seq, at, actor, action, target, previous, hash) "
            "VALUES (1, now(), '@eve:test.example', 'bridge', '#x', '', '')"
        )
        await connection.execute(
            "INSERT INTO vault (instance, record, key_version, version, sealed) "
            "VALUES ('x', 'y', 1, 1, '')"
        )
    finally:
        await connection.close()


def _joined(person: MatrixUser, user: str) -> bool:
    return any(
        event["type"] == "m.room.member" and event["state_key"] == user
        and event["content"]["membership"] == "join"
        for event in person.events
    )  # fmt: skip


async def test_the_embedded_database_is_looked_at_before_while_and_after(
    installation: Installation, here: Path
) -> None:
    embedded = replace(installation.settings(), database=DatabaseSettings())
    settings = replace(embedded, state_dir=here / "state", ops=OpsSettings(listen=None))
    findings = await examine(settings, here)
    assert by_level(findings) == {"bad": [], "note": [], "ok": CHECKS}
    assert "will be made at the first start" in sentences(findings)["database"]
    assert not (here / "state").exists()

    wanted = {"bad": [], "note": ["backup"], "ok": CHECKS}
    async with trestle_program(settings, here) as running:
        assert by_level(await examine(settings, here)) == wanted
        assert running.program.exit_code is None
    findings = await examine(settings, here)
    assert by_level(findings) == wanted
    assert "the schema is up to date, the audit is whole" in sentences(findings)["database"]
    assert not runs_in(settings.state_dir)
    assert not (settings.state_dir / "postgres" / "data" / "postmaster.pid").exists()


async def test_where_the_one_that_runs_and_its_files_differ_is_named(
    installation: Installation, cluster: Cluster, here: Path
) -> None:
    good = installation.settings()
    settings = replace(good, database=await cluster.fresh(), state_dir=here / "state")
    async with trestle_program(settings, here):
        place = Address("127.0.0.1", free_port())
        other = replace(settings, appservice=replace(settings.appservice, listen=place))
        noted = [one.sentence for one in await examine(other, here) if one.check == "listener"]
        assert noted == [
            f"a Trestle is running, but does not listen at {place}: its settings are older than "
            "these, or it is just starting; restart it"
        ]
        for key in (here / "state" / "keys" / "day").iterdir():
            key.unlink()
        # Its place for the watch is the one of the written file, not of these settings.
        findings = await examine(settings, here)
    assert any("does not answer at ops.listen" in one.sentence for one in findings)
    (wrong,) = [one for one in findings if one.level == "bad"]
    assert wrong.check == "keys"
    assert re.match(r"the key of \d{4}-\d\d-\d\d is missing in .*/keys/day: what", wrong.sentence)


# --- its forms ---


async def test_what_is_wrong_is_the_exit_code_and_machines_can_read_it(here: Path) -> None:
    document = read_yaml(here / "config.yaml")
    document["modules"]["dice"]["module"] = "dise"
    document["database"]["url"] = "postgresql://u:the-password@127.0.0.1:9/x"
    (here / "config.yaml").write_text(dump(document))
    ask = ("doctor", "-c", here / "config.yaml")
    shown = await asyncio.to_thread(run_program, *ask)
    ended = await asyncio.to_thread(run_program, *ask, "--json")
    assert (shown.code, ended.code) == (1, 1)
    assert shown.errors == ended.errors == ""
    rows = json.loads(ended.output)
    assert {tuple(row) for row in rows} == {("check", "level", "sentence")}
    assert {row["level"] for row in rows} <= {"ok", "note", "bad"}
    wrong = {row["check"]: row["sentence"] for row in rows if row["level"] == "bad"}
    assert wrong["modules"] == (
        "modules.dice.module: there is no module called 'dise'; did you mean dice?"
    )
    assert "the database at 127.0.0.1:9 cannot be reached: Connection" in wrong["database"]
    for check, sentence in wrong.items():
        assert f"BAD  {check}: {sentence}\n" in shown.output
    assert "the-password" not in shown.said + ended.said
    assert document["appservice"]["as_token"] not in shown.said + ended.said


def test_settings_that_cannot_be_read_are_told_to_machines_too(folder: Path) -> None:
    ended = trestle("doctor", "--json", "-c", folder / "nowhere.yaml")
    assert ended.code == 2
    (row,) = json.loads(ended.output)
    assert (row["check"], row["level"]) == ("settings", "bad")
    assert "`trestle init` writes one" in row["sentence"]
    assert f"trestle: {row['sentence']}\n" == ended.errors


async def test_another_place_of_the_registration_can_be_named(
    here: Path, installation: Installation
) -> None:
    elsewhere = here / "elsewhere.yaml"
    document = {**read_yaml(here / "registration.yaml"), "as_token": random_token()}
    elsewhere.write_text(dump(document))
    elsewhere.chmod(0o600)
    ended = await asyncio.to_thread(
        run_program, "doctor", "-c", here / "config.yaml", "--registration", elsewhere
    )
    assert ended.code == 1
    assert "BAD  registration: as_token in the registration is not the one in" in ended.output
