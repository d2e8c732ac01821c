"""PgBouncer between us and the database: a real one, unprivileged, on a Unix socket."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.settings.records import DatabaseSettings
from bridge.storage.unprivileged import unprivileged_user
from tests.rigs.cluster import Cluster

START_SECONDS = 120.0


def _configure(cluster: Cluster, folder: Path, mode: str) -> Path:
    file = folder / "pgbouncer.ini"
    server = f"host={cluster.server.socket_dir} port={cluster.port}"
    file.write_text(
        f"""
[databases]
* = {server} user=postgres password={cluster.server.password}
[pgbouncer]
pool_mode = {mode}
auth_type = any
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
ignore_startup_parameters = extra_float_digits
default_pool_size = 30
"""
    )
    return file


def _command(config: Path) -> list[str]:
    # Debian keeps servers where a plain user's PATH does not look.
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("pgbouncer is not installed: as root, apt-get install pgbouncer")
    command = ["setpriv", "--pdeathsig", "KILL"]
    user = unprivileged_user()
    if user is not None:
        shutil.chown(config.parent, user.pw_uid)
        command += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return [*command, "--", program, str(config)]


@asynccontextmanager
async def pooled(
    cluster: Cluster, settings: DatabaseSettings, mode: str
) -> AsyncIterator[DatabaseSettings]:
    """Run a PgBouncer with that ``pool_mode``; the settings of the same database through it."""
    with tempfile.TemporaryDirectory(prefix="trestle-pool-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        command = _command(_configure(cluster, folder, mode))
        with (folder / "output").open("wb") as output:
            process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not (folder / ".s.PGSQL.6432").exists():
                    if process.returncode is not None:
                        said = await asyncio.to_thread((folder / "output").read_text)
                        raise RuntimeError(f"pgbouncer ended: {said}")
                    await asyncio.sleep(0.02)
            database = settings.url.partition("@/")[2].partition("?")[0]
            yield DatabaseSettings(url=f"postgresql://any@/{database}?host={folder}&port=6432")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
