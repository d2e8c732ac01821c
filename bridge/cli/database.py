"""The database as a whole: ``database move``, ``database upgrade``."""

import sys
from pathlib import Path

import click

from bridge.cli.backup import shown
from bridge.cli.group import CONFIG, finished, main, quietly, run_until_told
from bridge.config import check_value, has_password
from bridge.init import to_yaml
from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.settings.confidential import is_exposed, read_secret
from bridge.settings.configfile import database_of, names_url_file, with_database, write_config
from bridge.settings.document import read_text
from bridge.settings.records import DatabaseSettings
from bridge.storage.move import Moved, move_to_embedded, move_to_url
from bridge.storage.move import upgrade as carry_over
from bridge.upgrade.files import is_writable


@main.group()
def database() -> None:
    """The database: move it, bring it to a newer Postgres."""


@database.command()
@CONFIG
@click.option(
    "--to", "target", metavar="URL",
    help="postgresql://user@host/name, an empty database; or `embedded`.",
)  # fmt: skip
@click.option(
    "--to-file", "file", metavar="FILE",
    help="A private file that holds the URL, if that has a password: config.yaml then names the "
    "file. `-` reads the URL from standard input.",
)  # fmt: skip
def move(config: Path, target: str | None, file: str | None) -> None:
    """Move everything to another database, and use that. Trestle must be stopped.

    Each table is counted and compared before config.yaml is changed. The old database stays.
    If this user may not write config.yaml, what to put there is printed.
    """
    settings = quietly(config)
    target = _target(target, file)
    check_value("database.url", target)
    source = settings.database
    if target == source.url:
        raise TrestleError("that database is the one in use already")
    # Before anything is carried: the file must be one that can be changed.
    by_hand = not is_writable(config)
    text = _changed(config, target, file, by_hand=by_hand)
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

    so = f"{config} still names the old database, which is as it was"
    moved = finished(run_until_told(work), cut=so)
    if not by_hand:
        _name_it(config, text)
    click.echo(f"Moved {moved.rows} rows in {moved.tables} tables; each is there as it was.")
    if by_hand:
        click.echo(f"\n{_told_to_write(config, text)}\n")
    else:
        click.echo(f"{config} names the new database. Start Trestle again.")
    if target == "embedded":
        click.echo("The old database was left as it is; drop it once you are sure.")
        if moved.old is not None and moved.old.exists():
            click.echo(f"An earlier embedded one is in {moved.old}.")
    elif moved.old is not None:
        click.echo(f"The old database is left in {moved.old}; delete it once you are sure.")


def _name_it(config: Path, text: str) -> None:
    try:
        write_config(config, text)
    except ConfigError as error:
        raise TrestleError(
            f"all rows were moved, but {error}. Change database.url by hand"
        ) from error


def _told_to_write(config: Path, text: str) -> str:
    """What is left to a person where Trestle may not write its settings, as it should be."""
    return (
        f"This user may not write {config}. As a user who may, replace what it has under "
        f"`database` with this:\n\n{to_yaml(database_of(text))}\n"
        "Start Trestle again only after that: it would go on with the old database, and what it "
        "stored there would be missing from the new one."
    )


def _target(target: str | None, file: str | None) -> str:
    """The URL that is given, or that a file holds."""
    if (target is None) == (file is None):
        raise ConfigError("say where to: either --to URL or --to-file FILE")
    if file is None:
        return str(target)
    if file == "-":
        return sys.stdin.readline().strip()
    return read_secret(Path(file), "--to-file").strip()


def _changed(config: Path, target: str, file: str | None, *, by_hand: bool) -> str:
    """The text of config.yaml that names the new database; nothing is written yet.

    Raises ``ConfigError`` if the URL has a password that the file may not hold, or that may not
    be printed for somebody to put there ``by_hand``.
    """
    text = read_text(config)
    if file not in (None, "-"):
        return with_database(text, str(Path(str(file)).absolute()), key="url_file")
    reasons = {
        f"everybody on this machine can read {config}": is_exposed(config.stat().st_mode),
        f"{config} keeps the URL in a file of its own": names_url_file(text),
        f"this user may not write {config}": by_hand,
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    if has_password(target) and why is not None:
        raise ConfigError(
            f"{why}, and this URL has a password: write the URL into a file of mode 600, and name "
            "the file with --to-file",
            path="database.url",
        )
    return with_database(text, target)


@database.command()
@CONFIG
@click.option(
    "--programs", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of the old version's programs, if it is not one of the usual ones.",
)  # fmt: skip
def upgrade(config: Path, programs: Path | None) -> None:
    """Bring the embedded database to this version's Postgres. Trestle must be stopped.

    The old one is kept as it is.
    """
    settings = quietly(config)
    if settings.database.url != "embedded":
        raise TrestleError(
            "the database is not embedded: whoever runs it brings it to a new version"
        )

    async def work() -> Moved | bool:
        with shown() as report:
            moved = await carry_over(
                settings.state_dir, clock=SystemClock(), programs=programs, report=report
            )
        return True if moved is None else moved

    so = "Give the same command again: it is done as a whole, or not at all"
    done = finished(run_until_told(work), cut=so)
    if not isinstance(done, Moved):
        click.echo("The embedded database is of this version already.")
        return
    click.echo(f"Carried {done.rows} rows in {done.tables} tables; each is there as it was.")
    click.echo(f"The old database is kept in {done.old}; delete it once you are sure.")
