"""The master key: what opens the keys of the vault. It never lies in the database.

It is in ``<state_dir>/keys/master``, or in the environment variable ``TRESTLE_MASTER_KEY`` for
those who keep such things elsewhere. Either holds one key, or while it is being changed several:
the newest first, each as base64 of 32 bytes.
"""

import base64
import binascii
import hashlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.sdk.errors import ConfigError
from bridge.storage.files import make_folder, write_private
from bridge.storage.keys import KeyLost

VARIABLE = "TRESTLE_MASTER_KEY"

_KEY = 32
_NONCE = 12
_LINGERS = 60.0
"""Seconds for which what was read before a key was retired can still be opened."""
MOST_ERASED = 100_000
"""So many destroyed keys are remembered, in 3.3 MB; the oldest are forgotten first."""


class MasterKeys:
    """Seals and opens other keys. Which key sealed something is told by its ``version``."""

    def __init__(self, path: Path, keys: Sequence[bytes], *, given: bool = False) -> None:
        self.path = path
        self.given = given
        """It stands in the environment, so that only the admin can change it."""
        self._keys = list(keys)
        self._ciphers = {version_of(key): AESGCM(key) for key in keys}
        self._retired: dict[int, float] = {}
        self._erased_file = path.with_name("erased")
        self._erased = _lines(self._erased_file)

    @classmethod
    def load(cls, state_dir: Path, environment: Mapping[str, str] = os.environ) -> "MasterKeys":
        """Read the master key, if there is one. Raises ``ConfigError`` if it cannot be used."""
        path = path_of(state_dir)
        text = environment.get(VARIABLE)
        if text is not None:
            return cls(
                path, _parse(text.replace(",", " "), f"the variable {VARIABLE}"), given=True
            )
        try:
            return cls(path, _parse(path.read_text("utf-8"), str(path)))
        except (FileNotFoundError, NotADirectoryError):
            return cls(path, ())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"{path} cannot be read: {reason}") from error

    @property
    def is_there(self) -> bool:
        """Whether there is any."""
        return bool(self._keys)

    @property
    def is_changing(self) -> bool:
        """Whether there are several: some things may still be sealed with an earlier one."""
        return len(self._keys) > 1

    @property
    def newest(self) -> int:
        """The version with which everything is sealed from now on."""
        return version_of(self._keys[0])

    def knows(self, version: int) -> bool:
        """Whether what was sealed with that version can be opened."""
        retired = self._retired.get(version)
        if retired is not None and time.monotonic() - retired > _LINGERS:
            self._retired.pop(version)
            self._ciphers.pop(version)
        return version in self._ciphers

    def add(self) -> None:
        """Make a new key the newest one, on disk before it is used. Keeps the earlier ones."""
        keys = [secrets.token_bytes(_KEY), *self._keys]
        self._write(keys)
        self._keys = keys
        self._ciphers[self.newest] = AESGCM(keys[0])

    def retire(self) -> None:
        """Forget all keys but the newest; what they sealed does not open here any more.

        What was erased stays noted: a backup may bring back the key that opened it. What stands
        in the environment the admin must take away there.
        """
        if not self.given:
            self._write(self._keys[:1])
        for key in self._keys[1:]:
            self._retired[version_of(key)] = time.monotonic()
        self._keys = self._keys[:1]

    def seal(self, associated: bytes, data: bytes) -> bytes:
        """Encrypt with the newest key."""
        nonce = os.urandom(_NONCE)
        return nonce + self._ciphers[self.newest].encrypt(nonce, data, associated)

    def open(self, version: int, associated: bytes, sealed: bytes) -> bytes:
        """Decrypt. Raises ``KeyLost`` when it cannot be."""
        if not self.knows(version):
            raise KeyLost("it was sealed with a master key that is not here")
        try:
            return self._ciphers[version].decrypt(sealed[:_NONCE], sealed[_NONCE:], associated)
        except (InvalidTag, ValueError) as error:
            raise KeyLost("it does not open: it was changed, or put in another's place") from error

    def note_erased(self, key: bytes) -> None:
        """Remember, on disk, that a key was destroyed: a backup must not bring it back."""
        self._erased[_digest(key)] = None
        for oldest in list(self._erased)[:-MOST_ERASED]:
            del self._erased[oldest]
        make_folder(self._erased_file.parent)
        write_private(self._erased_file, "".join(f"{one}\n" for one in self._erased).encode())

    def is_erased(self, key: bytes) -> bool:
        """Whether the key was destroyed."""
        return bool(self._erased) and _digest(key) in self._erased

    def _write(self, keys: Sequence[bytes]) -> None:
        make_folder(self.path.parent)
        write_private(self.path, b"".join(base64.b64encode(key) + b"\n" for key in keys))


def path_of(state_dir: Path) -> Path:
    """The file of the key, where it does not stand in the environment."""
    return state_dir / "keys" / "master"


def version_of(key: bytes) -> int:
    """The number by which a key is known; it says nothing about the key."""
    return int.from_bytes(hashlib.sha256(b"trestle key " + key).digest()[:4], "big") >> 1


def random_master_key() -> str:
    """A new key, as it is written."""
    return base64.b64encode(secrets.token_bytes(_KEY)).decode()


def _parse(text: str, where: str) -> list[bytes]:
    keys = []
    for word in text.split():
        try:
            key = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY:
            raise ConfigError(
                f"{where} holds no master key: it should be base64 of {_KEY} bytes. Put it back "
                "from where you keep a copy"
            )
        keys.append(key)
    if not keys:
        raise ConfigError(f"{where} is empty; put the master key back from where you keep a copy")
    return keys


def _digest(key: bytes) -> str:
    return hashlib.sha256(b"trestle erased " + key).hexdigest()[:32]


def _lines(path: Path) -> dict[str, None]:
    return dict.fromkeys(path.read_text().split()) if path.exists() else {}
