"""What is wrong now, a sentence each: what the status room shows and the alarms are about."""

import re
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

_PATIENCE = 60.0
"""Seconds that a network may be away, or an item wait, before it is a trouble."""
_OLDEST = 600.0
_LEAST_SPACE = 1 << 30
_OLDEST_BACKUP = timedelta(days=8)


class Conditions:
    """Holds a look at the status against what is well."""

    def __init__(
        self,
        state_dir: Path,
        *,
        now: Callable[[], datetime],
        last_backup: Callable[[], datetime | None],
    ) -> None:
        self._state_dir = state_dir
        self._now = now
        self._last_backup = last_backup
        self._since: dict[str, datetime] = {}

    def find(self, look: Mapping[str, Any]) -> dict[str, str]:
        """Give what is wrong: key to sentence. ``look`` is what ``Status.look`` gives."""
        found: dict[str, str] = {}
        if look["homeserver"] not in {"answers", "not asked yet"}:
            found["homeserver"] = f"The homeserver: {look['homeserver']}"
        for instance in look["instances"]:
            found |= _of_instance(instance)
        lasting = self._lasting(found)
        if look["parked"]:
            parts = ", ".join(f"{n} {reason}" for reason, n in sorted(look["parked"].items()))
            number = sum(look["parked"].values())
            lasting["parked"] = f"{number} put aside ({parts}): `trestle parked list` says why."
        if any(look["unaccounted"].values()):
            lasting["books"] = (
                f"{sum(look['unaccounted'].values())} events are unaccounted for; report it."
            )
        if look["lanes"]["oldest_seconds"] > _OLDEST:
            worst = look["lanes"]["longest"][0]
            because = f": {worst['because']}" if worst["because"] else ""
            lasting["oldest"] = f"For {worst['lane']} something waits for long{because}"
        return {key: _ended(said) for key, said in (lasting | self._of_machine()).items()}

    def _lasting(self, found: Mapping[str, str]) -> dict[str, str]:
        """Leave out what may pass by itself in a moment."""
        now = self._now()
        self._since = {key: self._since.get(key, now) for key in found}
        return {
            key: said
            for key, said in found.items()
            if (now - self._since[key]).total_seconds() >= _PATIENCE
        }

    def _of_machine(self) -> dict[str, str]:
        found = {}
        usage = shutil.disk_usage(self._state_dir)
        if usage.free < min(_LEAST_SPACE, usage.total // 20):
            found["disk"] = (
                f"The disk of {self._state_dir} has {usage.free >> 20} MiB left; make room, or "
                "nothing more can be taken."
            )
        last = self._last_backup()
        if last is not None and self._now() - last > _OLDEST_BACKUP:
            found["backup"] = (
                f"The last backup is of {last:%Y-%m-%d}; `trestle backup` makes a new one."
            )
        return found


def _of_instance(instance: Mapping[str, Any]) -> dict[str, str]:
    name, found = instance["name"], {}
    if instance["state"] != "running":
        reason = f": {instance['reason']}" if instance["reason"] else ""
        found[f"instance {name}"] = f"{name} is {instance['state']}{reason}"
    refused = instance["logins"].get("sign-in needed", 0)
    if refused:
        found[f"logins {name}"] = f"{refused} logins on {name} need their owners to sign in again"
    for chat, reason in sorted(instance["chats_in_trouble"].items()):
        found[f"chat {name} {chat}"] = f"{chat} on {name}: {reason}"
    return found


def _ended(said: str) -> str:
    # A network's words may hold what no table does.
    said = said.replace("\0", "").encode("utf-8", "replace").decode()
    return said if said.endswith((".", "!", "?")) else said + "."


def is_same(one: str, other: str) -> bool:
    """Whether two sentences differ by numbers only."""
    return re.sub(r"\d+", "0", one) == re.sub(r"\d+", "0", other)
