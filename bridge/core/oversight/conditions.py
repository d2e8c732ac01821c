"""What is wrong now, a sentence each: what the status room shows and the alarms are about."""

import re
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.sdk.errors import TemporaryFailure

PARKED = "parked"
"""The key of what is put aside."""
_PATIENCE = 60.0
"""Seconds that a network may be away, or an item wait, before it is a trouble."""
_OLDEST = 600.0
_LEAST_SPACE = 1 << 30
_OLDEST_BACKUP = timedelta(days=8)


class Conditions:
    """Finds what is wrong in a look at the status."""

    def __init__(
        self,
        state_dir: Path,
        *,
        now: Callable[[], datetime],
        last_backup: Callable[[], datetime | None],
        began: datetime,
        usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage,
    ) -> None:
        """``began`` is since when there is something to back up.

        ``usage`` gives the bytes of a folder's disk: all, used, free.
        """
        self._usage = usage
        self._state_dir = state_dir
        self._began = began
        self._now = now
        self._last_backup = last_backup
        self._since: dict[str, datetime] = {}
        self._away_since: datetime | None = None
        self._was_away: tuple[datetime, datetime] | None = None
        """The last time that the database was away for long."""

    def find(self, look: Mapping[str, Any]) -> dict[str, str]:
        """Give what is wrong: key to sentence. ``look`` is what ``Status.look`` gives.

        Raises ``TemporaryFailure`` while the database is away: nothing can be shown then. That
        it was away is a trouble of the first minute after it.
        """
        self._note_database(look["database"])
        found: dict[str, str] = {}
        if look["homeserver"] not in {"answers", "not asked yet"}:
            found["homeserver"] = f"The homeserver: {look['homeserver']}"
        for instance in look["instances"]:
            found |= _of_instance(instance)
        lasting = self._lasting(found)
        if look["parked"]:
            parts = ", ".join(f"{n} {reason}" for reason, n in sorted(look["parked"].items()))
            number = sum(look["parked"].values())
            lasting[PARKED] = f"{number} put aside ({parts}): `trestle parked list` says why."
        if any(look["unaccounted"].values()):
            lasting["books"] = (
                f"{sum(look['unaccounted'].values())} events are unaccounted for; report it."
            )
        lasting |= _of_unfinished(look.get("unfinished", {})) | look.get("encrypted", {})
        if look["lanes"]["oldest_seconds"] > _OLDEST:
            worst = look["lanes"]["longest"][0]
            because = f": {worst['because']}" if worst["because"] else ""
            lasting["oldest"] = f"For {worst['lane']} something waits for long{because}"
        lasting |= self._of_database() | self._of_machine()
        return {key: _ended(said) for key, said in lasting.items()}

    def _note_database(self, said: str) -> None:
        now = self._now()
        if said != "answers":
            self._away_since = self._away_since or now
            raise TemporaryFailure(f"the database is {said}")
        since, self._away_since = self._away_since, None
        if since is not None and (now - since).total_seconds() >= _PATIENCE:
            self._was_away = since, now

    def _of_database(self) -> dict[str, str]:
        if self._was_away is None:
            return {}
        since, until = self._was_away
        if (self._now() - until).total_seconds() > _PATIENCE:
            self._was_away = None
            return {}
        return {
            "database": f"The database was away from {since:%Y-%m-%d %H:%M} to {until:%H:%M} UTC: "
            "nothing was bridged, and what waited goes on now."
        }

    def _lasting(self, found: Mapping[str, str]) -> dict[str, str]:
        """Leave out what may pass by itself in a moment."""
        now = self._now()
        # A clock that was set back since would make it none for as long.
        lasting = now - timedelta(seconds=_PATIENCE)
        known = {key: at if at <= now else lasting for key, at in self._since.items()}
        self._since = {key: known.get(key, now) for key in found}
        return {
            key: said
            for key, said in found.items()
            if (now - self._since[key]).total_seconds() >= _PATIENCE
        }

    def _of_machine(self) -> dict[str, str]:
        found = {}
        total, _, free = self._usage(self._state_dir)
        if free < min(_LEAST_SPACE, total // 20):
            found["disk"] = (
                f"The disk of {self._state_dir} has {free >> 20} MiB left; make room, or "
                "nothing more can be taken."
            )
        last = self._last_backup()
        if self._now() - (last or self._began) > _OLDEST_BACKUP:
            found["backup"] = (
                "No backup was made yet; `trestle backup` makes one." if last is None else
                f"The last backup is of {last:%Y-%m-%d}; `trestle backup` makes a new one."
            )  # fmt: skip
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


def _of_unfinished(unfinished: Mapping[str, int]) -> dict[str, str]:
    found = {}
    if forgotten := unfinished.get("forgotten"):
        found["forgotten"] = f"{forgotten} events were forgotten undelivered since the start."
    if soon := unfinished.get("soon"):
        found["soon"] = f"{soon} events wait for more than 10 days; at 14 days they are forgotten."
    return found


def _ended(said: str) -> str:
    # A network's words may hold what no table does.
    said = said.replace("\0", "").encode("utf-8", "replace").decode()
    return said if said.endswith((".", "!", "?")) else said + "."


def is_same(one: str, other: str) -> bool:
    """Whether two sentences differ by numbers only."""
    return re.sub(r"\d+", "0", one) == re.sub(r"\d+", "0", other)
