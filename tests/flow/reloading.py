"""Settings that are read again, as the command line has it done."""

from dataclasses import replace
from typing import Any

from bridge.app import App
from bridge.settings.records import Settings
from tests.rigs.trestle import wait_until


class Again:
    """The settings as they are written at the time, and who has them read."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def read(self) -> Settings:
        """Read them."""
        return self.settings

    async def reload(self, app: App, **changes: Any) -> Any:
        """Write other settings and have them read; give what came of it."""
        return await (await self._write(app, changes)).reload()

    async def drift(self, app: App, **changes: Any) -> Any:
        """Write other settings; give what a reload would change."""
        return await (await self._write(app, changes)).drift()

    async def _write(self, app: App, changes: dict[str, Any]) -> Any:
        self.settings = replace(self.settings, **changes)
        await wait_until(lambda: app.parts.control.reloader is not None)
        return app.parts.control.reloader
