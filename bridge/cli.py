"""The command line: ``trestle``."""

import asyncio
import contextlib
import json
import shlex
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import click
import uvloop

from bridge import __version__
from bridge.app import run as run_app
from bridge.config import check_value, load
from bridge.control import ask
from bridge.core.aside import HERE
from bridge.core.catalogue import describe, find_module, installed
from bridge.demo import stage
from bridge.doctor import Doctor, Finding
from bridge.init import (
    Question,
    draft,
    homeserver_lines,
    parse_change,
    parse_value,
    refuse_existing,
    write_files,
    write_registration,
)
from bridge.model import AuditAction, SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.secret import Secret
from bridge.settings import Settings
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.storage.schema import admin_sql
from bridge.storage.shelf import Shelf, contents, summary
from bridge.telemetry import configure_logging, hide

T = TypeVar("T")

_CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path), default=Path("config.yaml"),
    show_default=True, help="The settings file.",
)  # fmt: skip

_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")

_NEARBY = "http://127.0.0.1:8008"
_DEFAULT_MODULES = ("dice",)


_CTRL_C = 130
_Alone: TypeAlias = Callable[[Shelf, Audit], Coroutine[Any, Any, Any]]
"""The exit code that shells give a program which Ctrl-C has ended."""


class _Commands(click.Group):
    """Turns our errors into one sentence and an exit code: 2 for settings, 1 for the rest."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrestleError as error:
            click.echo(f"trestle: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)
        except click.Abort as abort:  # At a question.
            click.echo(err=True)
            if not isinstance(abort.__context__, EOFError):
                ctx.exit(_CTRL_C)
            click.echo("trestle: nobody answers; `--help` lists the flags that do", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            ctx.exit(_CTRL_C)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trestle")
def main() -> None:
    """Trestle: bridges, bots and their manager for a Matrix homeserver."""


@main.command()
@click.option("--homeserver-url", metavar="URL", help="Base URL of the homeserver's client API.")
@click.option("--server-name", metavar="NAME", help="The part of your Matrix ids after the colon.")
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
@click.option("--yes", is_flag=True, help="Ask nothing; what is not given takes its default.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option(
    "--print-sql", is_flag=True,
    help="Only print what a database's admin must run where we may not make roles.",
)  # fmt: skip
def init(
    homeserver_url: str | None, server_name: str | None, modules: Sequence[str],
    changes: Sequence[str], directory: Path, yes: bool, force: bool, print_sql: bool,
) -> None:  # fmt: skip
    """Make config.yaml and registration.yaml, with random tokens.

    Asks what it must know; flags answer beforehand.
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
        "Server name (behind the colon of your Matrix ids)",
    )  # fmt: skip
    if not modules:
        modules = _DEFAULT_MODULES if yes else _ask_for_modules()
    document, settings = draft(
        homeserver_url=url, server_name=name, modules=[one for one in modules if one != "none"],
        changes=parsed, folder=directory, ask=None if yes else _ask,
    )  # fmt: skip
    config, registered = write_files(document, settings, directory, force=force)
    click.echo(f"\nWrote {config} and {registered}.\n\nPut this into homeserver.yaml:\n")
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


def _ask_for_modules() -> Sequence[str]:
    click.echo("\nModules:")
    _list_modules(indent="  ")

    def check(text: str) -> list[str]:
        with _asking_again():
            found = text.replace(",", " ").split()
            for name in found:
                if name != "none":
                    find_module(name.partition(":")[0], "")
            return found

    chosen: list[str] = click.prompt(
        "Which to switch on (several with spaces, or none)",
        default=" ".join(_DEFAULT_MODULES), value_proc=check,
    )  # fmt: skip
    return chosen


def _ask(question: Question) -> object:
    """Ask for a module's option."""
    words = f"{question.words.rstrip('.')} ({question.path})"
    if question.kind is bool:
        return click.confirm(words, default=bool(question.default))

    def check(text: str) -> object:
        with _asking_again():
            return text if question.kind is str else parse_value(text, "")

    return click.prompt(
        words, default=question.default, value_proc=check, hide_input=question.kind is Secret
    )


@contextlib.contextmanager
def _asking_again() -> Iterator[None]:
    """Say what is wrong with an answer, so that it is asked for again."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(error.reason) from error


@main.command()
@_CONFIG
def run(config: Path) -> None:
    """Run until stopped by Ctrl-C or SIGTERM."""
    settings = load(config)
    configure_logging(settings.logging.format, settings.logging.level)
    _run(lambda: run_app(settings, end_for_sure=True))


@main.command()
@_CONFIG
@click.option(
    "--registration", type=click.Path(path_type=Path), help="Default: beside the settings."
)
@_JSON
def doctor(config: Path, registration: Path | None, as_json: bool) -> None:
    """Say what is wrong with this installation, and the way out."""
    settings = _quietly(config)
    file = registration or config.parent / "registration.yaml"
    findings = _finished(_run(Doctor(settings, file).examine))
    if as_json:
        rows = [asdict(finding) for finding in findings]
        click.echo(json.dumps(rows, indent=2))
    else:
        for finding in findings:
            click.echo(f"{_mark(finding)} {finding.check}: {finding.sentence}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)


def _mark(finding: Finding) -> str:
    if not finding.ok:
        return click.style("BAD ", fg="red")
    return click.style("note", fg="yellow") if finding.note else click.style("ok  ", fg="green")


@main.command()
@_CONFIG
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Default: beside the settings."
)
def registration(config: Path, output: Path | None) -> None:
    """Write registration.yaml as the settings ask for it."""
    settings = load(config)
    path = output or config.parent / "registration.yaml"
    write_registration(settings, path)
    click.echo(f"Wrote {path}. Restart the homeserver, so that it reads it.")


@main.command()
def modules() -> None:
    """List the modules that are installed."""
    _list_modules()


def _list_modules(indent: str = "") -> None:
    for name, module in sorted(installed().items()):
        info, _ = describe(module)
        kind = "bot" if module.is_bot else "network"
        click.echo(f"{indent}{name} ({kind}): {info.summary}")


@main.group()
def parked() -> None:
    """What was put aside: see why, try it again, let it go."""


@parked.command("list")
@_CONFIG
@_JSON
def list_parked(config: Path, as_json: bool) -> None:
    """List what is parked, oldest first."""
    rows = _parked(config, "GET", "/parked", _summaries)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(_in_a_line(row))
    if not rows:
        click.echo("Nothing is parked.")


@parked.command("show")
@click.argument("name")
@_CONFIG
@_JSON
def show_parked(name: str, config: Path, as_json: bool) -> None:
    """Show one, with what people said."""
    row = _parked(config, "GET", f"/parked/{quote(name, safe='')}", lambda s, _: _one(s, name))
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    click.echo(_in_a_line(row))
    click.echo(json.dumps(row["event"], indent=2) if row["event"] else "No event is kept of it.")


@parked.command("retry")
@click.argument("name")
@_CONFIG
def retry_parked(name: str, config: Path) -> None:
    """Have one run again, now. Trestle must be running."""
    row = _parked(config, "POST", f"/parked/{quote(name, safe='')}/retry", None)
    click.echo(f"Runs again: {_in_a_line(row)}")


@parked.command("drop")
@click.argument("name")
@_CONFIG
def drop_parked(name: str, config: Path) -> None:
    """Let one go for good."""
    row = _parked(
        config, "DELETE", f"/parked/{quote(name, safe='')}", lambda s, a: _drop(s, a, name)
    )
    click.echo(f"Let go: {_in_a_line(row)}")


@main.command(short_help="Try it out: a bridged room on this machine.")
@click.option("--check", is_flag=True, help="Run the conversation, say how it went, and end.")
def demo(check: bool) -> None:
    """Run a homeserver, an IRC server and Trestle on this machine, and bridge a room."""
    code = _run(lambda: stage.play(check=check))
    # Ctrl-C is how the demo is meant to end; a check that was cut short has shown nothing.
    raise click.exceptions.Exit(int(check) if code is None else code)


def _parked(config: Path, method: str, path: str, alone: _Alone | None) -> Any:
    """Ask the running program; if none runs, do ``alone`` with the database ourselves."""
    settings = _quietly(config)

    async def work() -> Any:
        answer = await ask(settings.state_dir, method, path)
        if answer is not None:
            return answer
        if alone is None:
            raise TrestleError("Trestle does not run with this config; start it, then try again")
        async with Database.open(settings.database, settings.state_dir, SystemClock()) as database:
            day_keys = DayKeys(settings.state_dir, database.clock)
            audit = Audit(database, day_keys, settings.state_dir)
            return await alone(Shelf(database, day_keys), audit)

    return _finished(_run(work))


async def _summaries(shelf: Shelf, _: Audit) -> list[dict[str, Any]]:
    return [summary(one) for one in await shelf.all()]


async def _one(shelf: Shelf, name: str) -> dict[str, Any]:
    return contents(await shelf.get(name))


async def _drop(shelf: Shelf, audit: Audit, name: str) -> dict[str, Any]:
    one = await shelf.get(name)
    await audit.record(actor=HERE, action=AuditAction.DROP, target=one.name)
    await shelf.drop(one)
    return summary(one)


def _in_a_line(row: dict[str, Any]) -> str:
    since = row["since"][:19].replace("T", " ")
    return f"{row['name']}  {row['consumer']}  {row['reason']}: {row['detail']}  since {since}"


def _quietly(config: Path) -> Settings:
    settings = load(config)
    configure_logging("console", "error")
    hide(settings.appservice.as_token, *settings.appservice.hs_tokens)
    return settings


def _finished(result: T | None) -> T:
    """Give what came of it; end if that is nothing, since we were told to stop."""
    if result is None:
        raise click.exceptions.Exit(_CTRL_C)
    return result


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """Run until done or told to stop; being told to stop is no error."""

    async def until_told() -> T | None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _cancel_once(task))
        with contextlib.suppress(asyncio.CancelledError):
            return await work()
        return None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(until_told())


def _cancel_once(task: "asyncio.Task[Any] | None") -> Callable[[], None]:
    told: list[bool] = []

    def cancel() -> None:
        if told:
            return  # A second Ctrl-C must not cut the orderly stop short: nothing would be lost,
        told.append(True)  # but what runs would be a suspect at the next start.
        if task is not None:
            task.cancel()

    return cancel
