"""A program on a terminal that nobody looks at: tmux keeps its screen."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE

LOOK_AGAIN_SECONDS = 0.1


class Terminal:
    """One screen of 120 by 40."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def tmux(self, *words: str) -> str:
        """Tell tmux something; give what it says."""
        process = await asyncio.create_subprocess_exec(
            "tmux", "-f", "/dev/null", "-S", str(self._socket), *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, error = await process.communicate()
        assert process.returncode == 0, error.decode()
        return out.decode()

    async def type(self, text: str) -> None:
        """Type a line and press Enter."""
        await self.tmux("send-keys", "-l", text)
        await self.tmux("send-keys", "Enter")

    async def see(self, is_there: Callable[[str], bool]) -> str:
        """Look at the screen until it is so; give what it shows, with its colours."""
        shown = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while not is_there(shown):
                    shown = await self.tmux("capture-pane", "-p")
                    # A screen tells nobody that it has changed.
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
        except TimeoutError as error:
            raise AssertionError(f"the screen does not show it:\n{shown}") from error
        return shown

    async def see_text(self, *texts: str) -> str:
        """Look until the screen shows all the texts."""
        return await self.see(lambda shown: all(text in shown for text in texts))

    async def colours(self) -> str:
        """What the screen shows, with its escape codes."""
        return await self.tmux("capture-pane", "-p", "-e")


@asynccontextmanager
async def on_terminal(program: Sequence[str]) -> AsyncIterator[Terminal]:
    """Run a program on a terminal of its own; ``{folder}`` in its words is its home."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-tty-"))
    terminal = Terminal(folder / "tmux")
    words = [word.format(folder=folder) for word in program]
    try:
        await terminal.tmux("new-session", "-d", "-x", "120", "-y", "40", *words)
        try:
            yield terminal
        finally:
            await terminal.tmux("kill-server")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
