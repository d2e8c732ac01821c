"""`trestle reload` and SIGHUP under traffic: nothing is lost, and nobody else notices."""

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.model import Permission
from bridge.running.reload import Reloader
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings, RoomSettings
from tests.admin.commands import Outcome, command, run_program
from tests.conformance.stage import settings_for
from tests.flow.networks import Modules, irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.scale import SCALE
from tests.rigs.scripted_homeserver import scripted_homeserver
from tests.rigs.trestle import Town, make_modules, running, wait_until

DICE = "@_trestle_dice:test.example"
ADMIN = UserId("@admin:test.example")


def irc(server: IrcServer, **more: object) -> tuple[str, dict[str, object]]:
    """A module that keeps up with much talk."""
    return irc_module(server, flood_burst=100, flood_rate=100, **more)["near"]


class Talk:
    """Somebody in a room and somebody in its channel who go on talking."""

    def __init__(self, name: str, person: MatrixUser, room: str, friend: IrcUser, channel: str):
        self.name = name
        self.person, self.room = person, room
        self.friend, self.channel = friend, channel
        self.said: list[str] = []
        self.answered: list[str] = []

    async def go_on(self) -> None:
        """Talk until cancelled."""
        while True:
            self.said.append(f"{self.name} says {len(self.said)}")
            await self.person.say(self.room, self.said[-1])
            await self.answer()
            await asyncio.sleep(0.1 / SCALE)

    async def answer(self) -> None:
        """Say something in the channel."""
        self.answered.append(f"{self.name} hears {len(self.answered)}")
        self.friend.say(f"PRIVMSG {self.channel} :{self.answered[-1]}")
        await self.friend.sync()

    async def wait_for(self, count: int) -> None:
        """Return when so much more was said."""
        until = len(self.said) + count
        await wait_until(lambda: len(self.said) >= until)

    async def heard_on_irc(self) -> list[str]:
        """What came into the channel, once all of it is there."""
        end = f"the end of {self.name}"
        await self.person.say(self.room, end)
        if not any(end in line for line in self.friend.heard):
            await self.friend.expect(end)
        return [
            line.partition(" :")[2] for line in self.friend.heard
            if f"PRIVMSG {self.channel} :{self.name} says" in line
        ]  # fmt: skip

    async def heard_in_matrix(self) -> list[str]:
        """What came into the room, once all of it is there."""
        self.friend.say(f"PRIVMSG {self.channel} :the last of {self.name}")
        await self.friend.sync()
        await self.person.wait_for_text(self.room, f"the last of {self.name}")
        held = await self.person.messages(self.room, 5000)
        texts = [str(event["content"].get("body")) for event in held]
        return [text for text in texts if text.startswith(f"{self.name} hears")]

    def disturbances(self, since: int) -> list[str]:
        """What a dropped connection shows in the channel."""
        return [
            line for line in self.friend.heard[since:]
            if line.split()[1] in {"QUIT", "PART", "JOIN", "KICK", "NICK"}
        ]  # fmt: skip


@asynccontextmanager
async def going_on(talk: Talk) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(talk.go_on())
        try:
            yield
        finally:
            task.cancel()


async def reload(program: TrestleProgram, modules: Modules, **extra: Any) -> Outcome:
    """Write the settings and have them read again, as an admin does."""
    program.configure(replace(program.settings, modules=make_modules(modules)), extra)
    return await asyncio.to_thread(run_program, "reload", "-c", program.config)


async def reload_where_the_file_alone_is_mounted(program: TrestleProgram) -> Outcome:
    """As in a container, while an editor outside puts a new file in the old one's place."""
    config = program.config
    mounted, new = config.with_name("mounted.yaml"), config.with_name("new.yaml")
    lines = [f"touch {mounted}", f"mount --bind {config} {mounted}", f"cp -p {config} {new}"]
    lines += [f"mv {new} {config}", shlex.join(command("reload", "-c", mounted))]
    as_root = () if os.geteuid() == 0 else ("sudo", "-nE")
    process = await asyncio.create_subprocess_exec(
        *as_root, "unshare", "--mount", "--propagation", "private", "sh", "-ec",
        "\n".join(lines), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        output, errors = await process.communicate()
    return Outcome(process.returncode or 0, output.decode(), errors.decode())


async def parked(program: TrestleProgram) -> int:
    listed = await asyncio.to_thread(run_program, "parked", "list", "-c", program.config)
    return listed.output.count("is not switched on in the settings")


async def test_adding_changing_and_removing_a_network_loses_nothing_and_disturbs_nobody(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as near, run_ngircd() as far,
        irc_user(near.port, "carl") as carl, irc_user(far.port, "dora") as dora,
    ):  # fmt: skip
        await carl.join("#near")
        await dora.join("#far")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules({"near": irc(near)})
        )
        async with trestle_program(settings, folder) as program:
            alice, bea = await town.person("alice"), await town.person("bea")
            first = Talk("alice", alice, await bridge(alice, "#near"), carl, "#near")
            await alice.say(first.room, "alice says hello")
            await carl.expect("alice says hello")
            quiet_from = len(carl.heard)
            async with going_on(first):
                both = {"near": irc(near), "far": irc(far)}
                added = await reload(program, both)
                assert (added.code, added.output) == (0, "done: added far\n")
                second = Talk("bea", bea, await bridge(bea, "#far", "far"), dora, "#far")
                await bea.say(second.room, "bea says hello")
                await dora.expect("bea says hello")
                dora.heard.clear()
                async with going_on(second):
                    await second.wait_for(5)
                    changed = await reload(program, {**both, "far": irc(far, nick="other")})
                    assert (changed.code, changed.output) == (0, "done: changed far\n")
                    await second.wait_for(10)
                dora.say("WHOIS other")
                await dora.expect(" 318 ")
                assert any(" 311 " in line and " other " in line for line in dora.heard)
                came = await second.heard_on_irc()
                assert came == second.said
                async with going_on(second):
                    await second.wait_for(5)
                    removed = await reload(program, {"near": irc(near)})
                    assert (removed.code, removed.output) == (0, "done: removed far\n")
                    await second.wait_for(5)
                await first.wait_for(5)
                aside = len(second.said) - len(await _arrived(second))
                async with asyncio.timeout(PATIENCE):
                    while await parked(program) < aside:
                        await asyncio.sleep(0.1)
            assert first.disturbances(quiet_from) == []
            assert await first.heard_on_irc() == ["alice says hello", *first.said]
            assert await first.heard_in_matrix() == first.answered
            assert aside > 0


async def _arrived(talk: Talk) -> list[str]:
    """What the friend has read and what is on its way to the friend."""
    await talk.friend.sync()
    start = f"PRIVMSG {talk.channel} :{talk.name} says"
    return [line for line in talk.friend.heard if start in line]


async def test_hanging_up_reloads_and_a_mistake_changes_nothing(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    settings = town.settings_for(folder, database_settings, modules={})
    async with trestle_program(settings, folder) as program:

        def hang_up(modules: Modules) -> None:
            program.configure(replace(settings, modules=make_modules(modules)), {})
            assert program.program.pid is not None
            os.kill(program.program.pid, signal.SIGHUP)

        alice = await town.person("alice")
        hang_up({"dice": ("dice", {})})
        await wait_until(lambda: "added dice" in program.log_text())
        room = await alice.create_room()
        await alice.invite(room, DICE)
        await alice.wait_until_joined(room, DICE)
        await alice.say(room, "!roll 2d6")
        await alice.wait_until(lambda: len(alice.heard(room, DICE)) == 1)
        hang_up({"dice": ("dice", {"most_dice": 0})})
        await wait_until(lambda: "the settings stay as they were" in program.log_text())
        assert "modules.dice.most_dice" in program.log_text()
        refused = await asyncio.to_thread(run_program, "reload", "-c", program.config)
        assert refused.code == 2
        assert refused.errors.startswith("trestle: modules.dice.most_dice: must be greater than")
        await alice.say(room, "!roll 7d6")
        await alice.wait_until(lambda: len(alice.heard(room, DICE)) == 2)
        # Nor does a log that cannot be written: an instance was another by then.
        other = make_modules({"dice": ("dice", {"most_dice": 3})})
        nowhere = {"logging": {"file": str(program.config / "trestle.log")}}
        program.configure(replace(settings, modules=other), nowhere)
        refused = await asyncio.to_thread(run_program, "reload", "-c", program.config)
        assert (refused.code, "logging.file: " in refused.errors) == (2, True), refused.said
        program.config.write_text("limits: &a {tries: *a}")
        refused = await asyncio.to_thread(run_program, "reload", "-c", program.config)
        assert "holds values inside values, too deep or without end" in refused.errors
        await alice.say(room, "!roll 7d6")
        await alice.wait_until(lambda: len(alice.heard(room, DICE)) == 3)
        hang_up({"dice": ("dice", {"most_dice": 5})})
        await wait_until(lambda: "changed dice" in program.log_text())
        await alice.say(room, "!roll 8d6")
        await alice.wait_for_text(room, "I have 5 dice")
        program.configure(replace(settings, modules={}), {})
        drift = await asyncio.to_thread(run_program, "config", "drift", "-c", program.config)
        assert (drift.code, drift.output) == (1, "a reload would have: removed dice\n")
        assert (await reload(program, {})).output == "done: removed dice\n"
        assert (await reload(program, {})).output == "Nothing to change.\n"
        mounted = await reload_where_the_file_alone_is_mounted(program)
        assert "mounted.yaml alone is mounted here, and was replaced outside" in mounted.output
        drift = await asyncio.to_thread(run_program, "config", "drift", "-c", program.config)
        assert (drift.code, drift.output) == (0, "Trestle runs as the settings say.\n")
    alone = await asyncio.to_thread(run_program, "reload", "-c", program.config)
    assert alone.code == 1
    assert alone.errors.startswith(
        f"trestle: no Trestle is running in {settings.state_dir}; start it."
    )


async def test_rooms_that_the_homeserver_takes_long_over_hold_up_no_reload(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    far, answers = "!far", asyncio.Event()
    async with scripted_homeserver() as homeserver:
        before = settings_for(
            homeserver, database_settings, folder, permissions={ADMIN: Permission.ADMIN}
        )
        after = replace(before, rooms=(RoomSettings(room=far, bots=(InstanceId("dice"),)),))
        async with running(before, read_again=lambda: after) as app:
            reloader = app.parts.control.reloader
            assert isinstance(reloader, Reloader)
            reloader.patience = 0.1
            homeserver.hold = lambda asked: answers if far in asked.parts else None
            reloaded = await reloader.reload()
            assert reloaded.notes[0].startswith("the declared rooms take longer")
            assert [note for note in reloaded.notes if note.startswith(far)]
            answers.set()
            parts = app.parts
            await wait_until(lambda: parts.routes.has_seat(parts.namespaces.bot, RoomId(far)))
