"""What Trestle has written down and shows."""

import aiohttp

from bridge.app import App
from bridge.storage.audit import Audit, AuditRow


async def acts(app: App) -> list[AuditRow]:
    """What the audit knows; nothing in it was changed afterwards."""
    database, state_dir = app.parts.database, app.parts.settings.state_dir
    audit = Audit(database, state_dir)
    assert await audit.verify() == []
    return [row async for row in audit.rows()]


async def page_of(app: App, *, anew: bool = True) -> str:
    """The public page, as it is now; or as everybody sees it within the minute."""
    if anew:
        app.parts.web._chats._looked_at = None  # type: ignore[union-attr]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{app.parts.web.public_address}/bridged") as response,
    ):
        assert response.status == 200
        return await response.text()
