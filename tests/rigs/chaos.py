"""A stranger's module, installed the way strangers' are, that misbehaves on command."""

from pathlib import Path

_CODE = """
import asyncio, os, time
from pydantic import BaseModel
from bridge.sdk import ModuleInfo


class Settings(BaseModel):
    ledger: str


class ChaosBot:
    info = ModuleInfo(id="chaos", name="Chaos", summary="Misbehaves on command.")
    settings = Settings
    commands = ()

    def __init__(self, settings, host):
        self._ledger = settings.ledger

    async def on_message(self, message, call):
        text = call.text
        if text == "raise":
            raise RuntimeError("as asked")
        if text == "flaky" and not os.path.exists(self._ledger + ".mended"):
            raise RuntimeError("not mended yet")
        if text == "hang":
            await asyncio.Event().wait()
        if text == "stubborn":
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
        if text == "exit":
            os._exit(9)
        if text == "block":
            time.sleep(1000)
        with open(self._ledger, "a") as file:
            file.write(f"{message.room} {text}\\n")
"""


def install_chaos(folder: Path) -> Path:
    """Install it into a folder for ``PYTHONPATH``; give the folder."""
    place = folder / "site"
    info = place / "trestle_chaos-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "trestle_chaos.py").write_text(_CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trestle-chaos\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trestle.bots]\nchaos = trestle_chaos:ChaosBot\n")
    return place


def read_ledger(ledger: Path, room: str) -> list[str]:
    """What the module did in a room, in order."""
    if not ledger.exists():
        return []
    lines = [line.partition(" ") for line in ledger.read_text().splitlines()]
    return [text for place, _, text in lines if place == room]
