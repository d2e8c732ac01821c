"""``--help`` of each command reads well."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import bridge.cli
from bridge import __version__
from bridge.cli import main
from bridge.cli.group import PLACES
from tests.admin.commands import trestle


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def command_of(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


@pytest.mark.parametrize("path", list(commands()), ids=lambda path: " ".join(("trestle", *path)))
def test_the_help_says_what_it_does_and_what_each_option_is_for(path: tuple[str, ...]) -> None:
    command = command_of(path)
    assert command.help
    assert command.help.rstrip().endswith(".")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            # What click adds behind it, the default say, is in brackets.
            assert option.help.rstrip().endswith((".", "]")), option.name
    for flag in ("-h", "--help"):
        shown = trestle(*path, flag)
        assert shown.code == 0
        assert shown.output.startswith(f"Usage: {' '.join(('trestle', *path))} ")
        assert "..." not in shown.output.partition("Commands:")[2]
        assert max(map(len, shown.output.splitlines())) <= 80


def test_each_command_is_where_it_is_looked_for() -> None:
    files = Path(bridge.cli.__file__).parent.glob("*.py")
    assert {file.stem for file in files} == {"__init__", "group", "steps", *PLACES.values()}
    places = {
        name: command_of((name,)).callback for name in main.list_commands(click.Context(main))
    }
    assert {name: getattr(one, "__module__", "") for name, one in places.items()} == {
        name: f"bridge.cli.{place}" for name, place in PLACES.items()
    }


def test_a_command_that_there_is_not_names_the_help() -> None:
    wrong = trestle("rum")
    assert wrong.code == 2
    assert "No such command 'rum'" in wrong.errors
    assert "Try 'trestle --help' for help." in wrong.errors


def test_the_version_is_told() -> None:
    assert trestle("--version").output == f"trestle, version {__version__}\n"


def test_the_modules_are_listed_with_what_they_do() -> None:
    shown = trestle("modules").output.splitlines()
    assert "dice (bot): Rolls dice, flips coins and chooses for you." in shown
    assert any(line.startswith("irc (network): Bridges rooms to IRC channels") for line in shown)
