"""``trestle export`` and ``trestle erase``, as docs/how-to/own-data.md says."""

import asyncio
import json
import os
import shlex
import subprocess
from pathlib import Path

from bridge.core.oversight.byhand import HERE
from bridge.model import SystemClock
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.masterkeys import MasterKeys
from bridge.storage.modulestore import InstanceStore
from bridge.storage.personal import SECRET
from bridge.storage.pool import Database
from bridge.storage.portals import BotRooms
from bridge.storage.vault import Vault
from tests.admin.commands import LIMIT, Outcome, command, config_in, run_program, trestle
from tests.flow.rooms import BOT
from tests.rigs.own_data import rows_in
from tests.rigs.program import trestle_program
from tests.rigs.small_disk import no_room_beyond
from tests.rigs.trestle import make_settings

ALICE, BEA, NEAR = UserId("@alice:hs"), UserId("@bea:hs"), InstanceId("near")


async def fill(settings: DatabaseSettings, state_dir: Path) -> None:
    """Have something be kept about two people."""
    async with Database.open(settings, state_dir, SystemClock()) as database:
        vault = Vault(database, MasterKeys.load(state_dir))
        await vault.open()
        for person in (ALICE, BEA):
            await BotRooms(database).note_told(person, f"a word for {person}")
            await vault.put(person, NEAR, "password", b"hushhush")


async def keep_in_store(settings: DatabaseSettings, state_dir: Path) -> None:
    """Have a module keep a secret and a word of a person's."""
    async with Database.open(settings, state_dir, SystemClock()) as database:
        store = InstanceStore(database, InstanceId("vault"))
        await store.put("key:1", b"hushhush", subject=ALICE)
        await store.put("note:1", b"my word", subject=ALICE)


KEEPER = """
from pydantic import BaseModel
from bridge.sdk import Holds, Kept, ModuleInfo


class Settings(BaseModel):
    pass


class Keeper:
    info = ModuleInfo(id="keeper", name="Keeper", summary="Keeps.", keeps=(
        Kept(prefix="key:", holds=Holds.SECRET, purpose="a key", keep_for=None),
        Kept(prefix="note:", holds=Holds.CONTENT, purpose="a word", keep_for=None),
    ))
    settings = Settings
    commands = ()

    def __init__(self, settings, host):
        pass

    async def on_message(self, message, call):
        pass
"""


def install_keeper(place: Path, code: str) -> Path:
    """Install a stranger's module that keeps secrets; give the folder for ``PYTHONPATH``."""
    info = place / "trestle_keeper-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "trestle_keeper.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trestle-keeper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trestle.bots]\nkeeper = trestle_keeper:Keeper\n")
    return place


async def people(config: Path, *words: object) -> Outcome:
    """A command as a program."""
    return await asyncio.to_thread(run_program, *words, "-c", config)


def test_all_about_a_person_is_written_out_while_nothing_runs(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    config, file = config_in(folder, database_settings), folder / "alice.zip"
    asyncio.run(fill(database_settings, folder / "state"))
    done = trestle("export", ALICE, file, "-c", config)
    assert done.code == 0, done.said
    assert done.output == f"{file} holds all that is kept about {ALICE}. It is for nobody else.\n"
    assert file.stat().st_mode & 0o777 == 0o600
    rows = rows_in(file)
    assert [row["what"] for row in rows["told"]] == [f"a word for {ALICE}"]
    # Who looked is in it.
    assert [(row["action"], row["actor"]) for row in rows["audit"]] == [("export", HERE)]
    assert set(rows) == {"told", "audit", "vault", "subject_key"}
    said = json.dumps(rows)
    assert "hushhush" not in said
    assert BEA not in said
    before = file.read_bytes()
    again = trestle("export", ALICE, file, "-c", config)
    assert (again.code, "is there already; move it away" in again.errors) == (1, True)
    assert file.read_bytes() == before
    with no_room_beyond(100):
        full = trestle("export", ALICE, folder / "more.zip", "-c", config)
    assert full.errors == f"trestle: {folder / 'more.zip'}: File too large\n"
    assert full.code == 1
    assert not list(folder.glob("more*")), "half of it is there"
    nowhere = trestle("export", ALICE, folder / "none" / "alice.zip", "-c", config)
    told = f"the folder {folder / 'none'} does not exist: make it first"
    assert (nowhere.code, told in nowhere.errors) == (1, True)
    nobody = trestle("export", "alice", file, "-c", config)
    assert "name a person by their Matrix id" in nobody.errors


def test_whoever_has_closed_its_files_has_the_copy_and_no_question_answered(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    config, file = config_in(folder, database_settings), folder / "alice.zip"
    asyncio.run(fill(database_settings, folder / "state"))
    words = command("export", ALICE, file, "-c", config)
    closed = " ".join(["exec", *map(shlex.quote, words), "<&-", ">&-", "2>&-"])
    done = subprocess.run(["sh", "-c", closed], check=False, timeout=LIMIT)
    assert done.returncode == 0
    assert "told" in rows_in(file)
    asks = " ".join([*map(shlex.quote, command("erase", ALICE, "-c", config)), "<&-"])
    asked = subprocess.run(
        ["sh", "-c", asks], check=False, timeout=LIMIT, capture_output=True, text=True
    )
    assert (asked.returncode, "nobody is there to answer" in asked.stderr) == (2, True), asked


def test_what_a_module_says_is_a_secret_is_not_shown_though_nothing_runs(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    config, place = config_in(folder, database_settings), folder / "site"
    text = config.read_text()
    assert "\nmodules:\n" in text
    config.write_text(text.replace("\nmodules:\n", "\nmodules:\n  vault:\n    module: keeper\n"))
    asyncio.run(keep_in_store(database_settings, folder / "state"))
    # Of a module that does not load, or is set up no more, nobody knows what is a secret.
    shown: list[dict[str, str]] = []
    for name, code in (
        ("sound", KEEPER), ("broken", "raise ImportError('broken')"), ("gone", KEEPER)
    ):  # fmt: skip
        if name == "gone":
            config.write_text(text)
        env = {"PYTHONPATH": f"{install_keeper(place / name, code)}:{os.getcwd()}"}
        done = run_program("export", ALICE, folder / f"{name}.zip", "-c", config, env=env)
        assert done.code == 0, done.said
        assert ("not known which of the things that vault keeps" in done.errors) is (
            name == "broken"
        )
        rows = rows_in(folder / f"{name}.zip")["module_store"]
        shown.append({row["key"]: row["value"] for row in rows})
    assert shown == [
        {"key:1": SECRET, "note:1": "my word"}, *[{"key:1": SECRET, "note:1": SECRET}] * 2
    ]  # fmt: skip


def test_erasing_asks_first_and_needs_the_program(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    config = config_in(folder, database_settings)
    asked = trestle("erase", ALICE, "-c", config, answers="n\n")
    assert asked.code != 0
    assert f"direct chats of {ALICE} on networks end" in asked.output
    refused = trestle("erase", ALICE, "--yes", "-c", config)
    assert (refused.code, "start it, then try again" in refused.errors) == (1, True)
    assert "by their Matrix id" in trestle("erase", "alice", "--yes", "-c", config).errors


async def test_the_running_program_gives_a_copy_and_erases_one_person_and_no_other(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    state = folder / "state"
    await fill(database_settings, state)
    settings = make_settings(state, database=database_settings)
    async with trestle_program(settings, folder) as program:
        for number, person in enumerate((ALICE, BEA)):
            file = folder / f"{number}.zip"
            done = await people(program.config, "export", person, file)
            assert done.code == 0, done.said
            assert [row["what"] for row in rows_in(file)["told"]] == [f"a word for {person}"]
        erased = await people(program.config, "erase", ALICE, "--yes")
        assert erased.code == 0, erased.said
        assert erased.output.startswith(
            "Logins ended: none\nDirect chats ended: 0\nRows erased: 2\nStays: who changed what"
        )
        again = await people(program.config, "erase", ALICE, "--yes", "--json")
        found = json.loads(again.output)
        assert (found["logins"], found["rows"]) == ([], 0)
        assert [one["table"] for one in found["left"]] == ["audit"]
        ours = await people(program.config, "erase", BOT, "--yes")
        assert (ours.code, "and no person" in ours.errors) == (1, True)
        after = folder / "after.zip"
        await people(program.config, "export", ALICE, after)
        assert set(rows_in(after)) == {"audit"}
        actions = [row["action"] for row in rows_in(after)["audit"]]
        assert actions == ["export", "erase", "erased", "erase", "erased", "export"]
        other = folder / "other.zip"
        await people(program.config, "export", BEA, other)
        assert {"told", "vault", "subject_key"} <= set(rows_in(other))
