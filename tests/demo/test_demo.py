"""``trestle demo`` as people run it: a program, which takes along whatever it started."""

import signal
from pathlib import Path

import pytest

from tests.demo.program import demo


async def test_the_check_runs_the_conversation_and_leaves_nothing(folder: Path) -> None:
    async with demo(folder, "--check") as running:
        code = await running.wait_until_ended()
        assert code == 0, running.said
        assert any("6 of 6 messages crossed" in line for line in running.said), running.said
        assert running.started() == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_ctrl_c_or_a_closed_terminal_ends_all_that_the_demo_started(
    folder: Path, number: signal.Signals
) -> None:
    async with demo(folder) as running:
        await running.read_until("Ctrl-C ends all")
        text = "\n".join(running.said)
        assert "/connect 127.0.0.1" in text
        assert "users alice, bea" in text
        assert len(running.started()) >= 4  # IRC, Synapse, Trestle, Postgres.
        running.process.send_signal(number)
        assert await running.wait_until_ended() == 0, running.said
        assert running.started() == []
    assert list(folder.iterdir()) == []


async def test_kill_9_ends_all_that_the_demo_started(folder: Path) -> None:
    async with demo(folder) as running:
        await running.read_until("4/4")
        assert len(running.started()) >= 4  # All that there are; what is said then starts none.
        running.process.kill()
        await running.process.wait()
        await running.wait_until_alone()


@pytest.mark.parametrize("step", ["1/4", "2/4", "3/4", "4/4"])
async def test_ctrl_c_in_the_middle_of_the_start_leaves_nothing(folder: Path, step: str) -> None:
    async with demo(folder) as running:
        await running.read_until(step)
        running.process.send_signal(signal.SIGINT)
        assert await running.wait_until_ended() == 0, running.said
        assert running.started() == []
    assert list(folder.iterdir()) == []


async def test_a_check_that_is_cut_short_has_not_passed(folder: Path) -> None:
    async with demo(folder, "--check") as running:
        await running.read_until("1/4")
        running.process.send_signal(signal.SIGTERM)
        assert await running.wait_until_ended() == 1, running.said
        assert running.started() == []
