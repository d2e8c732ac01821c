"""``--help`` of each command reads well."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import click
import pytest
from pydantic import BaseModel, Field, SecretStr

import bridge.cli
from bridge import __version__
from bridge.cli import main
from bridge.cli.group import PLACES
from bridge.settings.optionwords import options_of
from tests.admin.commands import commands, trestle

SHIPPED = ("dice", "irc", "remind")


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
    assert {file.stem for file in files} == {
        "__init__",
        "asking",
        "group",
        "steps",
        *PLACES.values(),
    }
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


def test_a_modules_settings_are_shown_with_what_they_take_and_what_holds_without_them() -> None:
    shown = trestle("modules", "irc")
    assert shown.code == 0, shown.said
    assert "\nservers[].host  (text; must be given)\n    Host name or address.\n" in shown.output
    assert "\nmode  (puppets, relay; default: puppets)\n" in shown.output
    assert "\nsasl_password  (a secret or null; default: null)\n" in shown.output
    assert "\nwebirc.gateway  (text; default: trestle)\n" in shown.output
    assert "More: docs/reference/irc.md" in shown.output
    (bot, *_) = [one for one in json.loads(trestle("modules", "--json").output)
                 if one["name"] == "dice"]  # fmt: skip
    assert json.loads(trestle("modules", "dice", "--json").output) == bot
    assert bot["kind"] == "bot"
    assert bot["settings"][1] == {
        "key": "most_sides", "takes": "a whole number, 2 to 1000000", "required": False,
        "default": 1000, "help": "Sides of a die.",
    }  # fmt: skip
    wrong = trestle("modules", "ircc")
    assert (wrong.code, wrong.errors) == (
        2, "trestle: there is no module called 'ircc'; did you mean irc?\n",
    )  # fmt: skip


def test_each_setting_of_a_shipped_module_is_in_the_reference() -> None:
    page = (Path(bridge.cli.__file__).parents[2] / "docs/reference/modules.md").read_text()
    for module in (json.loads(trestle("modules", one, "--json").output) for one in SHIPPED):
        for one in module["settings"]:
            assert f"| `{one['key']}` | " in page, (module["name"], one["key"])
            assert one["help"]


class _Inner(BaseModel):
    word: SecretStr = Field(description="A word.")
    others: "list[_Inner]" = Field(default_factory=list, description="More of the kind.")


class _Outer(BaseModel):
    by_name: dict[str, _Inner] = Field(description="Each by its name.")
    how: Literal["fast", "well"] = Field(default="well", alias="how-so", description="How.")
    rate: float = Field(default=0.5, gt=0, description="How often.")
    where: tuple[Path, ...] | None = Field(default=None, description="Where.")


def test_a_strangers_settings_are_listed_however_they_are_built() -> None:
    assert [(one.key, one.takes, one.without) for one in options_of(_Outer)] == [
        ("by_name", "keys and values, each with the keys below", "must be given"),
        ("by_name.*.word", "a secret", "must be given"),
        ("by_name.*.others", "a list, each with the keys below", "none"),
        ("how-so", "`fast`, `well`", "`well`"),
        ("rate", "a number, above 0", "`0.5`"),
        ("where", "a list, [a, b] or `null`", "`null`"),
    ]


@pytest.mark.parametrize(
    ("command", "loaded"),
    [
        ("status", {"host", "host.outlook", "oversight", "oversight.statuslines"}),
        ("waiting", set()),
        ("rooms", set()),
        ("parked", {"oversight", "oversight.byhand"}),
        ("keys", {"oversight", "oversight.byhand"}),
        ("people", {"oversight", "oversight.byhand"}),
    ],
)
def test_to_ask_the_running_program_the_bridge_is_not_loaded(
    command: str, loaded: set[str]
) -> None:
    asked = f"import bridge.cli.{command}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", asked], check=True, capture_output=True, text=True
    )
    names = {name for name in done.stdout.split() if name.startswith("bridge.")}
    core = {name for name in names if name.startswith("bridge.core.")}
    assert core == {f"bridge.core.{name}" for name in loaded}
    assert "bridge.running" not in names
