"""The database as a whole: ``database move``, ``database upgrade``."""

from pathlib import Path

import click

from bridge.cli.backup import shown
from bridge.cli.group import CONFIG, finished, main, quietly, run_until_told
from bridge.config import check_value
from bridge.configfile import with_database, write_config
from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.settings import DatabaseSettings
from bridge.storage.move import Moved, move_to_embedded, move_to_url
from bridge.storage.move import upgrade as carry_over


@main.group()
def database() -> None:
    """The database: move it, bring it to another major version."""


@database.command()
@CONFIG
@click.option(
    "--to", "target", required=True, metavar="URL",
    help="postgresql://user:password@host/name, an empty database; or `embedded`.",
)  # fmt: skip
def move(config: Path, target: str) -> None:
    """Carry everything to another database, and use that. Trestle must not run.

    Each table is counted and compared before config.yaml is changed. The old database stays.
    """
    settings = quietly(config)
    check_value("database.url", target)
    source = settings.database
    if target == source.url:
        raise TrestleError("that is the database that is used already")
    # Before anything is carried: the file must be one that can be changed.
    text = with_database(config.read_text("utf-8"), target)
    clock = SystemClock()

    async def work() -> Moved:
        with shown() as report:
            if target == "embedded":
                return await move_to_embedded(
                    source, settings.state_dir, clock=clock, report=report
                )
            return await move_to_url(
                source, DatabaseSettings(url=target), settings.state_dir, clock=clock,
                report=report,
            )  # fmt: skip

    moved = finished(run_until_told(work))
    try:
        write_config(config, text)
    except ConfigError as error:
        raise TrestleError(
            f"all rows are there, but {error}. Change database.url by hand"
        ) from error
    click.echo(f"Moved {moved.rows} rows in {moved.tables} tables; each is there as it was.")
    click.echo(f"{config} names the new database. Start Trestle again.")
    if target == "embedded":
        click.echo("The old database was left as it is; drop it once you are sure.")
        if moved.old is not None and moved.old.exists():
            click.echo(f"An earlier embedded one is in {moved.old}.")
    elif moved.old is not None:
        click.echo(f"The old database is left in {moved.old}; delete it once you are sure.")


@database.command()
@CONFIG
@click.option(
    "--programs", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of the old version's programs, if they are in no usual place.",
)  # fmt: skip
def upgrade(config: Path, programs: Path | None) -> None:
    """Carry the embedded database to this version's Postgres. Trestle must not run.

    The old one is kept as it is.
    """
    settings = quietly(config)
    if settings.database.url != "embedded":
        raise TrestleError(
            "the database is not embedded: its own admin brings it to a new version"
        )

    async def work() -> Moved | bool:
        with shown() as report:
            moved = await carry_over(
                settings.state_dir, clock=SystemClock(), programs=programs, report=report
            )
        return True if moved is None else moved

    done = finished(run_until_told(work))
    if not isinstance(done, Moved):
        click.echo("The embedded database has this version already.")
        return
    click.echo(f"Carried {done.rows} rows in {done.tables} tables; each is there as it was.")
    click.echo(f"The old database is kept in {done.old}; delete it once you are sure.")
