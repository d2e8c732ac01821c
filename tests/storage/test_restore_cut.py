"""A restore that is cut in its middle was never begun, or is finished by the next start."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.sdk.errors import ConfigError
from bridge.settings.records import DatabaseSettings
from bridge.storage.backup import back_up
from bridge.storage.pool import Database
from bridge.storage.switch import Switch, decide, incoming, settle
from tests.rigs.cluster import Cluster
from tests.rigs.scale import chance, scaled
from tests.storage.conftest import TurnedClock
from tests.storage.everything import EMPTY, Full, come_back, everything, files_of, fill


async def test_a_restore_that_ends_before_its_commit_is_undone(
    full: Full, database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> None:
    await fill(database_settings, folder, clock)
    before, files = await everything(database_settings, EMPTY), files_of(folder)
    decided = Switch(names=("keys",), drop=("inflight",), aside="before-x", word="never committed")
    (incoming(folder) / "keys").mkdir(parents=True)
    decide(folder, decided)
    with pytest.raises(ConfigError, match="was interrupted; start Trestle once"):
        await back_up(folder / "f", database_settings, folder, clock=clock, server_name="hs")
    with pytest.raises(ConfigError, match="was interrupted; start Trestle once"):
        async with Database.open(DatabaseSettings(url="embedded"), folder, clock):
            raise AssertionError("it must not open")
    async with Database.open(database_settings, folder, clock):
        pass
    assert (await everything(database_settings, EMPTY), files_of(folder)) == (before, files)
    assert not incoming(folder).exists()


CUT = """
import os, signal, sys
from pathlib import Path
place, state_dir, count = int(sys.argv[1]), Path(sys.argv[2]), 0
def cut(event, arguments):
    global count
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
        count += 1
        if count == place:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(cut)
"""
"""A program that is killed just before it changes the names of files for the nth time."""

EXCHANGE = """
from bridge.storage.switch import Switch, complete, decide
names = ("postgres", "keys", "audit.head")
switch = Switch(names=names, drop=("inflight",), aside="before-x")
decide(state_dir, switch)
complete(state_dir, switch)
"""

RESTORE = """
import asyncio
from datetime import timedelta
from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.archive import reading
from bridge.storage.restore import Restore
class Turned(SystemClock):
    def now(self):
        return super().now() + timedelta(seconds=float(sys.argv[5]))
async def main():
    settings = DatabaseSettings(url=sys.argv[4])
    with reading(Path(sys.argv[3])) as found:
        await Restore(found, settings, state_dir, clock=Turned(), force=True).run()
asyncio.run(main())
print(count)
"""


def run_cut(program: str, place: int, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", CUT + program, str(place), *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_an_exchange_that_is_killed_anywhere_is_the_old_or_the_new(tmp_path: Path) -> None:
    """The next to open the state directory finishes it, or clears it away."""
    seen = []
    for place in range(1, 100):
        state_dir = tmp_path / str(place)
        for where, word in ((state_dir, "old"), (incoming(state_dir), "new")):
            (where / "postgres").mkdir(parents=True)
            (where / "keys").mkdir()
            for name in ("postgres/data", "keys/one", "audit.head"):
                (where / name).write_text(word)
        (state_dir / "inflight").write_text("old")
        done = run_cut(EXCHANGE, place, state_dir)
        settle(state_dir)
        found = {
            (state_dir / name).read_text() for name in ("postgres/data", "keys/one", "audit.head")
        }
        assert len(found) == 1, place
        word = found.pop()
        assert (state_dir / "inflight").exists() == (word == "old")
        assert not incoming(state_dir).exists()
        assert not (state_dir / "incoming.ready").exists()
        if word == "new":
            kept = state_dir / "before-x"
            assert {p.name for p in kept.iterdir()} == {
                "postgres",
                "keys",
                "audit.head",
                "inflight",
            }
        seen.append(word)
        if done.returncode == 0:
            break
    assert seen == sorted(seen, reverse=True), "the new never becomes the old again"
    assert {"old", "new"} == set(seen)
    assert len(seen) > 10


async def test_a_restore_that_is_killed_anywhere_is_done_or_was_never_begun(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    template = await cluster.fresh()
    await fill(template, folder / "old", clock)
    rows = {
        "old": await everything(template, EMPTY),
        "new": come_back(await everything(full.settings, EMPTY)),
    }
    files = {"old": files_of(folder / "old"), "new": files_of(full.state_dir)}
    name = template.url.partition("@/")[2].partition("?")[0]

    async def restore(place: int) -> tuple[str, str]:
        """What it printed, and which state it left."""
        settings, state_dir = await cluster.fresh(template=name), folder / f"at-{place}"
        shutil.copytree(folder / "old", state_dir)
        done = await asyncio.to_thread(
            run_cut, RESTORE, place, state_dir, full.file, settings.url,
            clock.ahead.total_seconds(),
        )  # fmt: skip
        async with Database.open(settings, state_dir, clock):
            pass
        found = await everything(settings, EMPTY)
        left = next(word for word, one in rows.items() if one == found)
        there = {k: v for k, v in files_of(state_dir).items() if not k.startswith("before-")}
        assert there == files[left], f"a mixture, cut at {place}"
        return done.stdout + done.stderr, left

    printed, left = await restore(0)
    assert left == "new"
    count = int(printed)
    dice = chance("restores cut")
    inside, last = range(1, count - 9), range(count - 9, count + 1, 3)
    places = {1, *last, *dice.sample(inside, min(len(inside), scaled(50)))}
    states = [(await restore(place))[1] for place in sorted(places)]
    assert states == sorted(states, reverse=True)
    assert set(states) == {"old", "new"}
