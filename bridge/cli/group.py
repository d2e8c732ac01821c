"""What every command shares: the group, its options, running and stopping, errors in words."""

import asyncio
import contextlib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import uvloop

from bridge import __version__
from bridge.config import load, state_dir_of
from bridge.logs import Log, hide
from bridge.sdk.errors import ConfigError, NotNow, TrestleError
from bridge.sdk.ids import UserId
from bridge.settings.records import Settings

P = ParamSpec("P")
T = TypeVar("T")

CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path), default=Path("config.yaml"),
    show_default=True, help="The settings file.",
)  # fmt: skip

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

_SIGNALLED = 128
"""With a signal's number, the exit code that shells give a program which that signal has ended."""
CTRL_C = _SIGNALLED + signal.SIGINT
_TOLD = "bridge.told"
"""Where a command's context has the number of the signal that told it to stop."""

_WRONG_SETTINGS = 2


def exit_code(error: TrestleError) -> int:
    """Give 2 for wrong settings, which stay wrong; 75 for what may pass by itself; else 1."""
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

    Only the command that is asked for is loaded: loading the others would take time.
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
            raise  # The reader has had enough; click ends quietly.
        except UnicodeEncodeError as error:
            # How Python hands on bytes of the command line or the environment that are no UTF-8.
            if not re.search("[\udc80-\udcff]", error.object):
                raise
            click.echo("trestle: what was given is no text in UTF-8", err=True)
            ctx.exit(_WRONG_SETTINGS)
        except OSError as error:
            if _is_unsaid(error):
                click.echo(f"trestle: {_unsaid(error)}", err=True)
                ctx.exit(1)
            place = f"{error.filename}: " if error.filename else ""
            said = error.strerror or str(error) or "no answer in time; try again"
            click.echo(f"trestle: {place}{said}", err=True)
            ctx.exit(1)
        except click.Abort as abort:  # At a question.
            click.echo(err=True)
            if not isinstance(abort.__context__, EOFError):
                ctx.exit(CTRL_C)
            click.echo(
                "trestle: nobody is there to answer; `--help` lists flags that do", err=True
            )
            ctx.exit(2)
        except KeyboardInterrupt:
            ctx.exit(CTRL_C)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trestle")
def main() -> None:
    """Trestle: bridges, bots and their manager for a Matrix homeserver."""
    if os.environ.get("NO_COLOR"):  # As https://no-color.org has it; click does not look.
        click.get_current_context().color = False


def shows(command: Callable[P, T]) -> Callable[P, T]:
    """Refuse a command that is run for what it shows, where its output is closed."""

    @functools.wraps(command)
    def checked(*args: P.args, **options: P.kwargs) -> T:
        refuse_unseen()
        return command(*args, **options)

    return checked


def refuse_unseen() -> None:
    """Raise ``TrestleError`` where nobody sees what is shown, as standard output is closed."""
    if sys.__stdout__ is None:  # So Python found it.
        raise TrestleError(
            "standard output is closed, so nobody would have the answer: leave it open, or "
            "send it into a file (`> FILE`)"
        )


def _is_unsaid(error: OSError) -> bool:
    """Whether it was raised as something was printed."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is click.echo.__code__ for frame, _ in frames)


def _unsaid(error: OSError) -> str:
    return (
        f"standard output cannot be written: {error.strerror}. Not all that was to be shown is "
        "there; what the command had done before stays done"
    )


def quietly(config: Path) -> Settings:
    """Load the settings for a command that prints: only errors are logged."""
    settings = load(config)
    log_errors_alone(settings)
    return settings


def log_errors_alone(settings: Settings) -> None:
    """Have only errors logged, without our tokens."""
    Log("console", "error").use()
    hide(settings.appservice.as_token, *settings.appservice.hs_tokens)


def place_of(config: Path) -> Path:
    """Where the state is, for a command that asks the running program. Only errors are logged.

    Nothing else in the settings need be right: the program may have been given them in another
    way, or still run with the ones before.
    """
    Log("console", "error").use()
    return state_dir_of(config)


def a_person(text: str) -> UserId:
    """Read an argument that names a person. Raises ``click.BadParameter``."""
    if not re.fullmatch(r"@[^:]+:.+", text):
        raise click.BadParameter("name a person by their Matrix id, @you:example.org")
    return UserId(text)


def finished(result: T | None, *, cut: str = "") -> T:
    """Give the result; without one, since we were told to stop, end. ``cut`` says what is so."""
    if result is None:
        if cut:
            click.echo(f"trestle: cut off. {cut}", err=True)
        told = click.get_current_context().meta.get(_TOLD, signal.SIGINT)
        raise click.exceptions.Exit(_SIGNALLED + told)
    return result


def run_until_told(work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """Run until done or told to stop; being told to stop is no error.

    Whoever closes the terminal tells us too, but not where `nohup` or the command sees to that.
    """

    async def until_told() -> T | None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        told = False

        def cancel(number: signal.Signals) -> None:
            nonlocal told
            # A second signal must not cut the orderly stop short: nothing would be lost, but what
            # runs would be a suspect at the next start.
            if task is not None and not told:
                told = True
                if (context := click.get_current_context(silent=True)) is not None:
                    context.meta[_TOLD] = number
                task.cancel()

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, cancel, number)
        with contextlib.suppress(asyncio.CancelledError):
            return await work()
        return None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(until_told())
