"""What an admin of the database does there: roles, statements, and looking on."""

import asyncio

from click.testing import CliRunner

from bridge.cli import main
from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from bridge.storage.schema import Connection
from tests.rigs.cluster import Cluster


async def until_it_sleeps(admin: Connection) -> None:
    """Return when a migration is in its middle."""
    async with asyncio.timeout(PATIENCE):
        while not await admin.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' "
            "AND datname = current_database())"
        ):
            await asyncio.sleep(0.01)


async def plain_role(cluster: Cluster, name: str, rights: str = "") -> DatabaseSettings:
    """A database of its own that a role without further rights may log in to."""
    settings = await cluster.fresh()
    await cluster.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'made-up' {rights}")
    url = settings.url.partition("@")[2]
    return DatabaseSettings(url=f"postgresql://{name}:made-up@{url}")


async def admin_runs_what_is_printed(cluster: Cluster, **urls: str) -> None:
    """Run what ``trestle init --print-sql`` prints as the superuser."""
    changes = [word for name, url in urls.items() for word in ("--set", f"database.{name}={url}")]
    printed = CliRunner().invoke(main, ["init", "--print-sql", *changes])
    assert printed.exit_code == 0, printed.output
    name = urls["url"].partition("@/")[2].partition("?")[0]
    for _ in range(2):  # Running it twice does no harm.
        await cluster.execute(printed.output, name)
