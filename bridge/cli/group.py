"""What every command shares: the group, its options, running and stopping, errors in words."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
import uvloop

from bridge import __version__
from bridge.config import load, state_dir_of
from bridge.logs import configure_logging, hide
from bridge.sdk.errors import ConfigError, NotNow, TrestleError
from bridge.sdk.ids import UserId
from bridge.settings.records import Settings

T = TypeVar("T")

CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path), default=Path("config.yaml"),
    show_default=True, help="The settings file.",
)  # fmt: skip

JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")

CTRL_C = 130
"""The exit code that shells give a program which Ctrl-C has ended."""

_WRONG_SETTINGS = 2


def exit_code(error: TrestleError) -> int:
    """Give 2 for settings, which do not get right by trying again; 75 for what may; else 1."""
    if isinstance(error, NotNow):
        return os.EX_TEMPFAIL
    return _WRONG_SETTINGS if isinstance(error, ConfigError) else 1


PLACES: Mapping[str, str] = {
    "backup": "backup", "completion": "completion", "config": "config", "database": "database",
    "demo": "demo", "doctor": "look", "erase": "people", "export": "people",
    "import": "importing", "init": "init", "keys": "keys", "modules": "look", "parked": "parked",
    "prove": "prove", "registration": "look", "reload": "config", "restore": "backup",
    "rooms": "rooms", "run": "run", "status": "status",
    "trace": "trace", "waiting": "waiting",
}  # fmt: skip
"""In which file of this folder each command is."""


class _Commands(click.Group):
    """Turns our errors into one sentence and an exit code (:func:`exit_code`).

    Of the commands only the one that is asked for is loaded: the others would make it wait.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in PLACES:
            import_module(f"bridge.cli.{PLACES[cmd_name]}")
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        for place in PLACES.values():
            import_module(f"bridge.cli.{place}")
        return super().list_commands(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrestleError as error:
            click.echo(f"trestle: {error}", err=True)
            ctx.exit(exit_code(error))
        except BrokenPipeError:
            raise  # Who read it has had enough; click ends quietly.
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"trestle: {place}{error.strerror or error}", err=True)
            ctx.exit(1)
        except click.Abort as abort:  # At a question.
            click.echo(err=True)
            if not isinstance(abort.__context__, EOFError):
                ctx.exit(CTRL_C)
            click.echo("trestle: nobody answers; `--help` lists the flags that do", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            ctx.exit(CTRL_C)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trestle")
def main() -> None:
    """Trestle: bridges, bots and their manager for a Matrix homeserver."""


def quietly(config: Path) -> Settings:
    """Load the settings for a command that prints: only errors are logged."""
    settings = load(config)
    configure_logging("console", "error")
    hide(settings.appservice.as_token, *settings.appservice.hs_tokens)
    return settings


def place_of(config: Path) -> Path:
    """Where the state is, for a command that asks the running program.

    Whatever else is wrong with the settings: the program may have been given them otherwise, or
    run with those before. Only errors are logged.
    """
    configure_logging("console", "error")
    return state_dir_of(config)


def a_person(text: str) -> UserId:
    """Read whom an argument names. Raises ``click.BadParameter``."""
    if not re.fullmatch(r"@[^:]+:.+", text):
        raise click.BadParameter("a person is named by the Matrix id, @you:example.org")
    return UserId(text)


def finished(result: T | None) -> T:
    """Give what came of it; end if that is nothing, since we were told to stop."""
    if result is None:
        raise click.exceptions.Exit(CTRL_C)
    return result


def run_until_told(work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
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
