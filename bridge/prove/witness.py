"""The module of a proof: writes down what it is shown, and answers questions.

It is installed the way a stranger's module is, and only into the proof's own folder.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bridge.prove.script import ASKS
from bridge.sdk.events import RoomMessage
from bridge.sdk.module import BotHost, Call, Command, ModuleInfo

ANSWER = "heard: "


class WitnessSettings(BaseModel):
    """Where it writes."""

    model_config = ConfigDict(extra="forbid")

    ledger: str = Field(description="The file that every message is written into.")


class WitnessBot:
    """Writes one line for each message: the room, the event, its text."""

    info = ModuleInfo(id="witness", name="Witness", summary="Writes down what it is shown.")
    settings = WitnessSettings

    def __init__(self, settings: WitnessSettings, host: BotHost) -> None:
        self._file = os.open(settings.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @property
    def commands(self) -> Sequence[Command]:
        """None: it hears everything."""
        return ()

    async def on_message(self, message: RoomMessage, call: Call) -> None:
        """Write it down, in one write that a kill does not cut; answer if it is a question."""
        text = call.text
        os.write(self._file, f"{message.room}\t{message.event_id}\t{text}\n".encode())
        if text.endswith(ASKS):
            await call.reply(f"{ANSWER}{text}")


def install(folder: Path) -> Path:
    """Install it into a folder for ``PYTHONPATH``; give the folder."""
    place = folder / "site"
    info = place / "trestle_witness-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trestle-witness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[trestle.bots]\nwitness = {__name__}:{WitnessBot.__name__}\n"
    )
    return place


def read_ledger(file: Path) -> dict[str, list[str]]:
    """What it was shown: texts by room, in order. The end of a line may not be there yet."""
    found: dict[str, list[str]] = {}
    if file.exists():
        whole, _, _ = file.read_text(errors="replace").rpartition("\n")
        for line in filter(None, whole.split("\n")):
            room, _, text = line.split("\t", 2)
            found.setdefault(room, []).append(text)
    return found
