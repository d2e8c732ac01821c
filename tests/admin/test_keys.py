"""``trestle keys``: the master key in an admin's hands, with Trestle running and without."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.doors.control import ask, follow
from bridge.model import SystemClock
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from bridge.storage.vault import Vault
from tests.admin.commands import (
    Outcome,
    config_in,
    init,
    make_database,
    run_program,
    trestle,
)
from tests.rigs.owner import owner_of
from tests.rigs.program import trestle_program
from tests.rigs.trestle import make_settings

ALICE, NEAR = UserId("@alice:hs"), InstanceId("near")


async def keys(config: Path, *words: object) -> Outcome:
    """``trestle keys ...`` as a program."""
    return await asyncio.to_thread(run_program, "keys", *words, "-c", config)


@asynccontextmanager
async def vault_of(settings: DatabaseSettings, state_dir: Path) -> AsyncIterator[Vault]:
    async with Database.open(settings, state_dir, SystemClock()) as database:
        yield await Vault.at(database, state_dir)


async def put(settings: DatabaseSettings, state_dir: Path) -> None:
    async with vault_of(settings, state_dir) as vault:
        await vault.put(ALICE, NEAR, "password", b"hers")


async def find(settings: DatabaseSettings, state_dir: Path) -> bytes | None:
    async with vault_of(settings, state_dir) as vault:
        return await vault.find(ALICE, NEAR, "password")


async def break_the_ring(settings: DatabaseSettings, state_dir: Path) -> None:
    async with Database.open(settings, state_dir, SystemClock()) as database:
        owner = await owner_of(database)
        await owner.execute("UPDATE subject_key SET wrapped = 'x'")
        await owner.close()


def test_init_makes_the_master_key_and_says_to_keep_a_copy(folder: Path) -> None:
    path = folder / "state" / "keys" / "master"
    made = init(folder)
    assert f"Keep a copy of {path} elsewhere" in made.output
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert before.decode().strip() not in made.said
    assert init(folder, "--force").code == 0
    assert path.read_bytes() == before


def test_init_makes_no_key_for_a_trestle_that_has_its_state_elsewhere(folder: Path) -> None:
    made = init(folder, "--no-state")
    assert not (folder / "state").exists()
    assert f"The first start makes {folder}/state/keys/master" in made.output
    assert "Keep a copy of /" not in made.output


def test_init_leaves_the_key_to_the_first_start_where_it_may_not_write(folder: Path) -> None:
    (folder / "file").write_text("")
    made = init(folder, "--set", f"state_dir={folder / 'file' / 'state'}")
    assert made.code == 0, made.said
    assert f"The first start makes {folder}/file/state/keys/master" in made.output
    assert "Keep a copy of /" not in made.output


def test_the_master_key_is_changed_and_looked_at_while_nothing_runs(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    config, state = config_in(folder, database_settings), folder / "state"
    asyncio.run(put(database_settings, state))
    before = (state / "keys" / "master").read_bytes()
    # Where nobody looks at a screen, nothing else is said: cron would mail it.
    assert trestle("keys", "check", "-c", config) == Outcome(0, "Everything opens.\n", "")
    changed = trestle("keys", "rotate", "-c", config)
    assert changed.code == 0, changed.said
    assert "The master key was changed." in changed.output
    after = (state / "keys" / "master").read_bytes()
    assert after != before
    assert len(after.split()) == 1
    for key in (before, after):
        assert key.decode().strip() not in changed.said
    assert asyncio.run(find(database_settings, state)) == b"hers"
    asyncio.run(break_the_ring(database_settings, state))
    broken = trestle("keys", "check", "--json", "-c", config)
    assert broken.code == 1
    (fault,) = json.loads(broken.output)["faults"]
    assert fault.startswith("the key of @alice:hs cannot be opened")
    assert "keys forget PERSON" in broken.errors
    assert "by their Matrix id" in trestle("keys", "forget", "alice", "-c", config).errors
    gone = trestle("keys", "forget", ALICE, "-c", config)
    assert gone.output == "1 records of @alice:hs are gone, and the key that opened them.\n"
    checked = trestle("keys", "check", "--json", "-c", config)
    assert json.loads(checked.output) == {"faults": []}


async def test_the_master_key_is_changed_while_trestle_runs(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    state = folder / "state"
    async with vault_of(database_settings, state) as vault:
        for number in range(300):
            await vault.put(UserId(f"@p{number}:hs"), NEAR, "password", b"%d" % number)
    before = (state / "keys" / "master").read_bytes()
    settings = make_settings(state, database=database_settings)
    async with trestle_program(settings, folder) as program:
        changed = await keys(program.config, "rotate")
        assert changed.code == 0, changed.said
        assert (state / "keys" / "master").read_bytes() != before
        told: list[dict[str, object]] = []
        assert await follow(state, "GET", "/keys/check", told.append)
        assert told[-1] == {"done": 300, "total": 300, "faults": []}
        assert await ask(state, "DELETE", "/keys/@p7:hs") == 1
        # What asks the program needs nothing of the settings but where the state is.
        text = program.config.read_text()
        program.config.write_text(text.replace("as_token:", "as_tokn:"))
        gone = await keys(program.config, "forget", "@p9:hs")
        assert gone.output.startswith("1 records of @p9:hs are gone"), gone.said
        listed = await asyncio.to_thread(run_program, "parked", "list", "-c", program.config)
        assert listed.output == "Nothing is parked.\n", listed.said
    async with vault_of(database_settings, state) as vault:
        assert await vault.find(UserId("@p8:hs"), NEAR, "password") == b"8"
        assert await vault.find(UserId("@p7:hs"), NEAR, "password") is None


async def test_the_master_key_is_not_changed_unless_that_can_be_noted(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    state = folder / "state"
    settings = make_settings(state, database=database_settings)
    async with trestle_program(settings, folder) as program:
        before = (state / "keys" / "master").read_bytes()
        (state / "audit.head").unlink(missing_ok=True)
        (state / "audit.head").mkdir()  # As on a full disk, it cannot be written.
        refused = await keys(program.config, "rotate")
        assert refused.code == 1
        assert "cannot be written: it is there and no file; nothing was done" in refused.errors
        assert (state / "keys" / "master").read_bytes() == before
        (state / "audit.head").rmdir()
        changed = await keys(program.config, "rotate")
        assert changed.code == 0, changed.said
        assert "request_failed" not in program.log_text()


def test_trestle_does_not_start_without_the_master_key_of_what_is_stored(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    config, state = config_in(folder, database_settings), folder / "state"
    asyncio.run(put(database_settings, state))
    (state / "keys" / "master").unlink()
    for words in (("run",), ("keys", "check"), ("keys", "rotate"), ("keys", "forget", ALICE)):
        refused = trestle(*words, "-c", config)
        assert refused.code == 2, words
        assert f"the master key in {state / 'keys' / 'master'} is missing" in refused.errors
        assert "Put it back from where you keep a copy" in refused.errors
    said = trestle("doctor", "-c", config).output
    assert f"there is neither {state / 'keys' / 'master'} nor" in said
    assert trestle("keys", "reset", "--yes", "-c", config).code == 0
    assert trestle("keys", "check", "-c", config).output == "Everything opens.\n"
    assert asyncio.run(find(database_settings, state)) is None


def test_a_command_makes_no_database_and_brings_none_to_another_version(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    assert init(folder).code == 0
    before = sorted((folder / "state").rglob("*"))
    looks = (("parked", "list"), ("trace", "$x"), ("keys", "check"), ("backup", folder / "x"))
    for words in (*looks, ("keys", "rotate")):
        refused = trestle(*words, "-c", folder / "config.yaml")
        assert refused.code == 2, refused.said
        assert "there is no embedded database in" in refused.errors
        assert sorted((folder / "state").rglob("*")) == before

    async def forget_the_newest() -> None:
        async with Database.open(
            database_settings, config.parent / "state", SystemClock()
        ) as database:
            owner = await owner_of(database)
            await owner.execute(
                "DELETE FROM schema_version WHERE version = "
                "(SELECT max(version) FROM schema_version)"
            )
            await owner.close()

    config = config_in(folder / "by-url", database_settings)
    asyncio.run(forget_the_newest())
    for words in (("parked", "list"), ("keys", "check")):
        refused = trestle(*words, "-c", config)
        assert (refused.code, "start Trestle once" in refused.errors) == (2, True), refused.said


def test_a_command_makes_no_file_where_another_user_has_the_state(folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    if os.geteuid() == 0:
        os.chown(theirs, 65534, 65534)
    else:
        theirs = Path("/usr/share")
    assert init(folder, "--set", f"state_dir={folder}/other").code == 0
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f"{folder}/other", str(theirs)))
    for words in (
        ("parked", "list"), ("parked", "drop", "x"), ("trace", "$x"), ("keys", "rotate"),
        ("keys", "reset", "--yes"), ("backup", folder / "x"), ("database", "upgrade"),
    ):  # fmt: skip
        refused = trestle(*words, "-c", config)
        assert (refused.code, "run this as that user" in refused.errors) == (2, True), refused.said
        assert not (theirs / "lock").exists()


def test_a_reset_is_asked_about(folder: Path) -> None:
    init(folder)
    before = (folder / "state" / "keys" / "master").read_bytes()
    refused = trestle("keys", "reset", "-c", folder / "config.yaml", answers="n\n")
    assert "Everybody must sign in again." in refused.output
    assert refused.code == 130
    assert (folder / "state" / "keys" / "master").read_bytes() == before


def test_a_new_key_is_one_that_the_environment_may_hold(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    printed = trestle("keys", "new").output
    config = config_in(folder, database_settings)
    make_database(config)
    (folder / "state" / "keys" / "master").unlink()
    checked = run_program("keys", "check", "-c", config, env={"TRESTLE_MASTER_KEY": printed})
    assert checked.output == "Everything opens.\n", checked.said
    assert not (folder / "state" / "keys" / "master").exists()
