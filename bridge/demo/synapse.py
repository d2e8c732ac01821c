"""A real Synapse from the package index: one process, SQLite, the loopback only."""

import asyncio
import base64
import json
import secrets
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge.demo.processes import Program, free_port, wait_until_listening

_DATABASE = "homeserver.db"
_PLENTY = {"per_second": 10_000, "burst_count": 10_000}


class Synapse:
    """Started in a folder, which keeps its data over a restart."""

    def __init__(
        self,
        folder: Path,
        *,
        server_name: str = "localhost",
        port: int = 0,
        registrations: tuple[Path, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.server_name = server_name
        self.port = port or free_port()
        self._registrations = registrations
        self._options = dict(options or {})
        self.registration_secret = secrets.token_urlsafe(24)
        self.program = Program("Synapse", folder / "synapse.log")

    @property
    def url(self) -> str:
        """The base URL of its client API."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, limit: float = 180.0) -> None:
        """Return when it answers. Raises ``ConfigError`` with its last words if it does not."""
        config = self.folder / "homeserver.yaml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML.
        await self.program.start(
            [sys.executable, "-m", "synapse.app.homeserver", "-c", str(config)],
            env={"SYNAPSE_CACHE_FACTOR": "0.5"},
            cwd=self.folder,
        )
        await wait_until_listening(self.program, self.port, limit)

    async def stop(self) -> None:
        """End it in order."""
        await self.program.stop()

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self.program.kill()

    async def measure_tables(self) -> None:
        """Have SQLite know how large its tables are.

        Nothing in Synapse does that. Without it, the edits for one page of ``/messages`` are
        looked for among all relations, which takes seconds after some ten thousand messages.
        """
        await asyncio.to_thread(_analyze, self.folder / _DATABASE)

    def _config(self) -> dict[str, Any]:
        folder = self.folder
        key = folder / "signing.key"
        if not key.exists():
            # The form of the signedjson package: algorithm, version, unpadded base64 seed.
            seed = secrets.token_bytes(32)
            key.write_text(f"ed25519 a_demo {_unpadded(seed)}\n")
        log_config = folder / "log.yaml"
        log_config.write_text(json.dumps({
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"level": "WARNING", "handlers": ["console"]},
        }))  # fmt: skip
        limits = (
            "rc_message", "rc_registration", "rc_joins_per_room", "rc_3pid_validation",
            "rc_admin_redaction",
        )  # fmt: skip
        return {
            "server_name": self.server_name,
            "pid_file": str(folder / "synapse.pid"),
            "listeners": [{
                "port": self.port, "type": "http", "bind_addresses": ["127.0.0.1"],
                "tls": False, "x_forwarded": False,
                "resources": [{"names": ["client", "openid"], "compress": False}],
            }],
            "database": {"name": "sqlite3", "args": {"database": str(folder / _DATABASE)}},
            "log_config": str(log_config),
            "media_store_path": str(folder / "media"),
            "signing_key_path": str(key),
            "registration_shared_secret": self.registration_secret,
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "encryption_enabled_by_default_for_room_type": "off",
            "suppress_key_server_warning": True,
            "url_preview_enabled": False,
            "presence": {"enabled": False},
            "filter_timeline_limit": -1,
            "bcrypt_rounds": 4,
            "app_service_config_files": [str(path) for path in self._registrations],
            "rc_login": {"address": _PLENTY, "account": _PLENTY, "failed_attempts": _PLENTY},
            "rc_joins": {"local": _PLENTY, "remote": _PLENTY},
            "rc_invites": {"per_room": _PLENTY, "per_user": _PLENTY, "per_issuer": _PLENTY},
            **dict.fromkeys(limits, _PLENTY),
            **self._options,
        }  # fmt: skip


def _analyze(database: Path) -> None:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        connection.execute("ANALYZE")
        connection.commit()


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
