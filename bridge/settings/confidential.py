"""Secrets in files: read when they are private, refused with the mend when they are not."""

import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.sdk.errors import ConfigError

_SECRET = re.compile(r"[A-Za-z0-9+/=_~-]{20,}")
"""A file's name that is perhaps a token in the wrong place."""
_CONTAINER_SECRETS = ("/run/secrets/", "/var/run/secrets/")


def is_exposed(mode: int) -> bool:
    """Whether everybody on this machine may read or change a file of that mode."""
    return bool(mode & (stat.S_IROTH | stat.S_IWOTH))


def exposure(path: Path, holds: str = "") -> str:
    """Say that everybody can read the file, and the way out."""
    what = f", and it holds {holds}" if holds else ""
    mend = f"chmod 600 {shlex.quote(str(path))}"
    return f"everybody on this machine can read {path}{what}; run `{mend}`"


def read_secret(path: Path, where: str) -> str:
    """Read the text of a ``*_file``, without its line end.

    Raises ``ConfigError`` at ``where`` for a file that is not there, empty or open to everybody.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # A pipe would keep us waiting.
            raise ConfigError(f"{path} is no file", path=where)
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        if isinstance(error, OSError) and _SECRET.fullmatch(path.name):
            raise ConfigError(
                f"what it names cannot be read: {reason}; it takes a file's path, and not the "
                "secret itself",
                path=where,
            ) from error
        raise ConfigError(f"{path} cannot be read: {reason}", path=where) from error
    # The modes of a container's secrets are the container runtime's.
    if is_exposed(mode) and not str(path).startswith(_CONTAINER_SECRETS):
        raise ConfigError(exposure(path), path=where)
    if not text:
        raise ConfigError(f"{path} is empty", path=where)
    return text


def exposed_keys(state_dir: Path) -> Iterator[ConfigError]:
    """Give an error for each key or password of the state directory that everybody may read.

    What we may not look into is left out.
    """
    for folder, _, names in os.walk(state_dir / "keys"):
        for name in sorted(names):
            yield from _examine(Path(folder, name))
    yield from _examine(state_dir / "postgres" / "owner.password")


def refuse_exposed_keys(state_dir: Path) -> None:
    """Raise ``ConfigError`` for the first key that everybody on this machine may read."""
    for error in exposed_keys(state_dir):
        raise error


def _examine(path: Path) -> Iterator[ConfigError]:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if stat.S_ISREG(mode) and is_exposed(mode):
        yield ConfigError(exposure(path, "a key"), path="state_dir")
