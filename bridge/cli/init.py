"""Making an installation: ``init``."""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from bridge.cli.group import main
from bridge.cli.look import list_modules
from bridge.config import check_value
from bridge.core.host.catalogue import find_module
from bridge.init import (
    Question,
    check_admin,
    check_master_key,
    draft,
    have_master_key,
    homeserver_lines,
    parse_change,
    parse_value,
    place_of_master_key,
    refuse_existing,
    write_files,
)
from bridge.running.roster import NO_ADMIN, admins_of, name_an_admin
from bridge.sdk.errors import ConfigError
from bridge.settings.options import SECRETS
from bridge.settings.records import Settings
from bridge.storage.schema import admin_sql

_NEARBY = "http://127.0.0.1:8008"


@main.command()
@click.option("--homeserver-url", metavar="URL", help="Base URL of the homeserver's client API.")
@click.option("--server-name", metavar="NAME", help="The part of your Matrix ids after the colon.")
@click.option("--admin", "admins", multiple=True, metavar="ID",
              help="The Matrix id of an admin, who is told of troubles and answers for rooms in "
              "the settings. Repeatable.")  # fmt: skip
@click.option(
    "--module", "modules", multiple=True, metavar="MODULE[:NAME]",
    help="A module to switch on: `dice`, or `irc:libera` to name the instance; `none` for none. "
    "Repeatable.",
)  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Any other setting, by its dotted path: ops.listen=127.0.0.1:9000. "
              "Repeatable.")  # fmt: skip
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=Path(),
              help="Where the two files go.  [default: here]")  # fmt: skip
@click.option("--no-state", is_flag=True,
              help="Make no state directory and no master key here: the first start makes them, "
              "in a container's volume, say, or on another machine.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Ask nothing; what is not given takes its default.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option(
    "--print-sql", is_flag=True,
    help="Only print the SQL for the database's admin, where Trestle may not make roles.",
)  # fmt: skip
def init(
    homeserver_url: str | None, server_name: str | None, admins: Sequence[str],
    modules: Sequence[str], changes: Sequence[str], directory: Path, no_state: bool, yes: bool,
    force: bool, print_sql: bool,
) -> None:  # fmt: skip
    """Make config.yaml and registration.yaml, with random tokens.

    It asks for what it must know; flags answer in advance.
    """
    if print_sql:
        given = dict(parse_change(change) for change in changes)
        urls = (str(given.get(f"database.{name}", "")) for name in ("url", "owner_url"))
        click.echo(admin_sql(*urls))
        return
    if not force:
        refuse_existing(directory)
    parsed = dict(parse_change(change) for change in changes)
    url = homeserver_url or _ask_for(
        "homeserver.url", "--homeserver-url", yes, "URL of the homeserver", _NEARBY
    )
    name = server_name or _ask_for(
        "homeserver.server_name", "--server-name", yes,
        "Server name (the part of your Matrix ids after the colon)",
    )  # fmt: skip
    if not admins and not yes and "permissions" not in parsed:
        admins = _ask_for_admin(name)
    if not modules:
        modules = _ask_for_modules(yes)
    document, settings = draft(
        homeserver_url=url, server_name=name, admins=[check_admin(one) for one in admins],
        modules=[one for one in modules if one != "none"], changes=parsed, folder=directory,
        ask=None if yes else _ask,
    )  # fmt: skip
    if not no_state:
        check_master_key(settings)
    config, registered = write_files(document, settings, directory, force=force)
    is_made = not no_state and have_master_key(settings)  # Before words that may reach nobody.
    click.echo(f"\nWrote {config} and {registered}.")
    _tell_of_master_key(place_of_master_key(settings), is_made=is_made)
    _tell(config, registered, settings)


def _tell_of_master_key(place: Path | None, *, is_made: bool) -> None:
    """Say that a copy must be kept."""
    if place is None:
        return
    if is_made:
        click.echo(f"Keep a copy of {place} elsewhere: no stored")
        click.echo("credentials open without it.")
    else:
        click.echo(f"The first start makes {place}, on the machine where it happens.")
        click.echo("Keep a copy of it elsewhere: no stored credentials open without it.")


def _tell(config: Path, registered: Path, settings: Settings) -> None:
    """Say what comes next."""
    if not admins_of(settings):
        click.echo(f"Nobody is an admin: {NO_ADMIN}; {name_an_admin(settings)}.")
    click.echo("\nPut this into homeserver.yaml:\n")
    click.echo(homeserver_lines(registered, settings))
    option = "" if config == Path("config.yaml") else f" -c {shlex.quote(str(config))}"
    click.echo(
        f"\nRestart the homeserver, then:\n\n  trestle run{option}\n\n"
        f"and `trestle doctor{option}` says what is wrong, if anything is."
    )


def _ask_for(path: str, flag: str, yes: bool, words: str, default: str | None = None) -> str:
    """Ask for a setting until it is right."""
    if yes:
        raise ConfigError(f"{flag} is needed with --yes")

    def check(text: str) -> str:
        with _asking_again():
            check_value(path, text.strip())
        return text.strip()

    return str(click.prompt(words, default=default, value_proc=check))


def _ask_for_admin(server_name: str) -> Sequence[str]:
    def check(text: str) -> list[str]:
        with _asking_again():
            return [check_admin(text.strip())] if text.strip() else []

    words = f"Your Matrix id, @you:{server_name}, to be the admin (Enter: none)"
    found: list[str] = click.prompt(words, default="", show_default=False, value_proc=check)
    return found


def _ask_for_modules(yes: bool) -> Sequence[str]:
    if yes:
        raise ConfigError("--module is needed with --yes: for example irc, or none")
    click.echo("\nModules:")
    list_modules(indent="  ")

    def check(text: str) -> list[str]:
        with _asking_again():
            found = text.replace(",", " ").split()
            for name in found:
                if name != "none":
                    find_module(name.partition(":")[0], "")
            return found

    words = "Which to switch on (irc:libera names it libera; several with spaces, or none)"
    chosen: list[str] = click.prompt(words, value_proc=check)
    return chosen


def _ask(question: Question) -> object:
    """Ask for a module's option."""
    words = f"{question.words.rstrip('.')} ({question.path})"
    if question.kind is bool:
        return click.confirm(words, default=bool(question.default))

    def check(text: str) -> object:
        with _asking_again():
            return text if question.kind in (str, *SECRETS) else parse_value(text, "")

    return click.prompt(
        words, default=question.default, value_proc=check, hide_input=question.kind in SECRETS
    )


@contextlib.contextmanager
def _asking_again() -> Iterator[None]:
    """Say what is wrong with an answer, so that it is asked for again."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(error.reason) from error
