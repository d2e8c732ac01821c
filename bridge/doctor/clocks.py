"""The clocks: ours, the database's, the homeserver's."""

from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

from bridge.sdk.examination import Remark, bad, note, well

_TOLERABLE = 5.0
_TOO_MUCH = 60.0


def difference_by_header(date: str | None, before: datetime, after: datetime) -> float | None:
    """Seconds by which the clock behind an HTTP ``Date`` is ahead of ours; None without one.

    ``before`` and ``after`` are our times around the answer. The header names whole seconds, so
    half a second is added.
    """
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    ours = before + (after - before) / 2
    return (theirs - ours).total_seconds() + 0.5


def judge_clocks(differences: dict[str, float | None]) -> Sequence[Remark]:
    """Say whose clock is off. ``differences``: who to seconds ahead of ours, None if unknown."""
    known = {who: by for who, by in differences.items() if by is not None}
    if not known:
        return [note("no other clock could be asked; is this machine's right?")]
    off = {who: by for who, by in known.items() if abs(by) > _TOLERABLE}
    if not off:
        theirs = " and ".join(f"{who}'s" for who in known)
        return [well(f"this machine's clock agrees with {theirs}")]
    values = list(off.values())
    if len(off) == len(known) > 1 and max(values) - min(values) < _TOLERABLE:
        return [
            _say(values[0], f"this machine's clock is {_ahead(-values[0])} those of "
                 f"{' and '.join(off)}; set it, for example by `timedatectl set-ntp true`")
        ]  # fmt: skip
    return [
        _say(by, f"the clock of {who} is {_ahead(by)} ours; set the machines' clocks, for "
             "example by `timedatectl set-ntp true`")
        for who, by in off.items()
    ]  # fmt: skip


def _ahead(seconds: float) -> str:
    size = abs(seconds)
    length = f"{size:.0f} s" if size < 7200 else f"{size / 3600:.1f} hours"
    return f"{length} {'ahead of' if seconds > 0 else 'behind'}"


def _say(seconds: float, sentence: str) -> Remark:
    return (bad if abs(seconds) > _TOO_MUCH else note)(sentence)
