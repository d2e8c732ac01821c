"""Processes as the kernel shows them: those of ours, and their memory."""

import os
from pathlib import Path


def processes_of(folder: Path) -> list[int]:
    """The processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command:
                found.append(int(entry.name))
    return found


def resident(pid: int | None) -> int:
    """Bytes of memory that a process has."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    return int(fields[fields.index("Rss:") + 1]) * 1024
