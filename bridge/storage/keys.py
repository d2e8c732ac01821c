"""Keys of the state directory: one a day for payloads, one for hashing event ids.

A day's key is made and synced to disk before anything of that day is stored, and destroyed with
the day, so that backups, replicas and write-ahead logs forget too.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.model import Clock, Forgotten
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.files import make_folder, write_private
from bridge.wholefile import sync_folder

log = logging.getLogger(__name__)

_NONCE = 12
_KEY = 32


class KeyLost(PermanentFailure):
    """What was sealed cannot be opened: its day's key is gone, or it was tampered with."""


class DayKeys:
    """Seals and opens with the key of a UTC day (AES-256-GCM)."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._ciphers: dict[date, AESGCM] = {}

    def prepare(self) -> None:
        """Have the keys of today and tomorrow on disk. Call at start and every hour.

        Raises ``TemporaryFailure`` when today's cannot be made or read. Tomorrow's may come later.
        """
        today = self._clock.today()
        self._sealing(today)
        try:
            self._sealing(today + timedelta(days=1))
        except TemporaryFailure as error:
            log.error("%s", error, extra={"event": "no_day_key"})

    def seal(self, day: date, associated: bytes, data: bytes) -> bytes:
        """Encrypt ``data`` so that it opens only with the day's key and ``associated``.

        Raises ``TemporaryFailure`` when the day's key cannot be made or read, and ``Forgotten``
        for a day whose key is destroyed: it gets no new one.
        """
        nonce = os.urandom(_NONCE)
        return nonce + self._sealing(day).encrypt(nonce, data, associated)

    def open(self, day: date, associated: bytes, sealed: bytes) -> bytes:
        """Decrypt. Raises :class:`KeyLost` when it cannot be."""
        try:
            cipher = self._cipher(day, make=False)
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], associated)
        except (InvalidTag, ValueError) as error:
            raise KeyLost(
                f"something stored on {day} does not open with that day's key"
            ) from error

    def destroy(self, day: date) -> None:
        """Make everything that was sealed on that day unreadable, here and in every copy."""
        self._ciphers.pop(day, None)
        path = self._path(day)
        if path.exists():
            _destroy(path)

    def destroy_aside(self, first: date) -> None:
        """Destroy the keys of days before ``first`` in what was kept aside, by a restore say."""
        for state_dir in self._state_dir.glob("before-*"):
            for day, path in key_files(state_dir).items():
                if day < first:
                    _destroy(path)

    def days(self) -> list[date]:
        """The days whose keys exist."""
        return list(key_files(self._state_dir))

    def _path(self, day: date) -> Path:
        return _folder_in(self._state_dir) / day.isoformat()

    def find_over(self, day: date) -> Forgotten | None:
        """Say so if what was received on that day is not kept any more.

        While its key is there it is: the date may be wrong, and nothing is to be lost by that.
        """
        if day in self._ciphers:
            return None
        is_over = day < self._clock.today() - timedelta(days=RECEIVED_DAYS - 1)
        if is_over and not self._path(day).exists():
            return Forgotten(f"what was received on {day} is forgotten")
        return None

    def refuse_over(self, day: date) -> None:
        """Raise ``Forgotten`` if what was received on that day is not kept any more."""
        if (over := self.find_over(day)) is not None:
            raise over

    def _sealing(self, day: date) -> AESGCM:
        if (cipher := self._ciphers.get(day)) is not None:
            return cipher
        self.refuse_over(day)
        try:
            return self._cipher(day, make=True)
        except KeyLost as error:
            raise TemporaryFailure(str(error)) from error
        except OSError as error:
            raise TemporaryFailure(f"the key of {day} cannot be kept: {error.strerror}") from error

    def _cipher(self, day: date, *, make: bool) -> AESGCM:
        cipher = self._ciphers.get(day)
        if cipher is None:
            path = self._path(day)
            if not path.exists():
                if not make:
                    raise KeyLost(f"the key of {day} is gone, and with it what was stored then")
                make_folder(path.parent)
                write_private(path, secrets.token_bytes(_KEY))
            key = path.read_bytes()
            if len(key) != _KEY:
                raise KeyLost(f"the key of {day} is damaged: {path} should hold {_KEY} bytes")
            cipher = self._ciphers[day] = AESGCM(key)
        return cipher


def key_files(state_dir: Path) -> dict[date, Path]:
    """The keys of days in a state directory, oldest first; what else lies there is none."""
    found = sorted(_folder_in(state_dir).glob("????-??-??"))
    return {date.fromisoformat(path.name): path for path in found}


def _folder_in(state_dir: Path) -> Path:
    return state_dir / "keys" / "day"


def _destroy(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            file.write(os.urandom(_KEY))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink()
    sync_folder(path.parent)


class EventKeys:
    """A keyed hash of event ids and the like: nobody without the key can test a guess."""

    def __init__(self, state_dir: Path) -> None:
        path = state_dir / "keys" / "event-ids"
        make_folder(path.parent)
        if not path.exists():
            write_private(path, secrets.token_bytes(_KEY))
        self._start = hashlib.blake2b(key=path.read_bytes(), digest_size=16)

    def key_of(self, text: str) -> bytes:
        """Hash the text: 16 bytes, always the same for this installation."""
        hashed = self._start.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        return hashed.digest()

    def keys_of(self, texts: Sequence[str]) -> list[bytes]:
        """Hash each text, as :meth:`key_of` does."""
        start = self._start.copy
        keys = []
        for text in texts:
            hashed = start()
            try:
                hashed.update(text.encode())
            except UnicodeEncodeError:
                hashed.update(text.encode("utf-8", "surrogatepass"))
            keys.append(hashed.digest())
        return keys
