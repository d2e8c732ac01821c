"""Sites whose network is a real one."""

from pathlib import Path
from typing import Any

from bridge.demo.processes import free_port
from bridge.settings.records import Address, DatabaseSettings, Settings, WebSettings
from tests.flow.networks import irc_module
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, make_modules

SERVER_PASSWORD = "secret-of-the-server"


def settings_with(
    town: Town, irc: IrcServer, folder: Path, database: DatabaseSettings, **options: Any
) -> Settings:
    """A Trestle with pages, and with one network."""
    port = free_port()
    web = WebSettings(listen=Address("127.0.0.1", port), manager_url=f"http://127.0.0.1:{port}")
    return town.settings_for(
        folder, database, modules=make_modules(irc_module(irc, **options)), web=web
    )
