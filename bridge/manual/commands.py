"""``docs/reference/cli.md`` and the manual page, from the commands themselves."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

import click

from bridge.manual.words import table

_PAGE_HEAD = """\
# The command line

Every command has `-h, --help`. Where it is named, `-c, --config PATH` is the settings file, by
default `config.yaml` in this folder, and `--json` prints JSON, for programs. What is printed
for people may change; a program can rely on the JSON. Exit codes: 0 all is well, 1 it is not
(`doctor` found something, the homeserver refuses, ...), 2 the settings or the words of the
command are wrong, 75 what the settings name is away, full or in use at this moment (try again,
as a service manager does), 130 it was told to stop by Ctrl-C, 143 by SIGTERM (other signals: 128
and their number). A secret of the settings may also stand in the environment:
`TRESTLE_APPSERVICE_AS_TOKEN` for `appservice.as_token`.

"""

_DATE = "2026-11-25"
"""The date at the foot of the manual page: formatters want one, and builds must not differ."""

_EXIT = (
    ("0", "All is well."),
    ("1", "It is not: the sentence says what."),
    ("2", "The settings or the words of the command are wrong."),
    ("75", "What the settings name is away, full or in use at this moment: try again."),
    ("130", "It was told to stop by Ctrl-C."),
    ("143", "It was told to stop by SIGTERM. Other signals: 128 and their number."),
)


class Option(NamedTuple):
    """A flag as it is typed, and what it is for."""

    flags: str
    words: str


class Entry(NamedTuple):
    """A command as the reference shows it."""

    name: str
    usage: str
    help: str
    options: list[Option]


_ALIKE = {
    Option("-c, --config PATH", "The settings file.  [default: config.yaml]"): "-c",
    Option("--json", "Print JSON, for programs."): "--json",
    Option("-h, --help", "Show this message and exit."): "",
}
"""What the head of the page says once, and how a command then names it."""


def entries(command: click.Command) -> Iterator[Entry]:
    """Give the command and all below it, in the order of ``--help``."""
    context = click.Context(command, info_name="trestle", **command.context_settings)
    yield from _entries(command, context)


def commands_page(command: click.Command) -> str:
    """The text of ``docs/reference/cli.md``."""
    parts = [_PAGE_HEAD]
    for entry in entries(command):
        parts.append(f"## {entry.name}\n\n{entry.help}\n\n```\n{entry.usage}\n```\n\n")
        rows = [(f"`{one.flags}`", one.words) for one in entry.options if one not in _ALIKE]
        if rows:
            parts.append(table(("option", "what it is for"), rows) + "\n")
        if alike := [f"`{_ALIKE[one]}`" for one in entry.options if _ALIKE.get(one)]:
            parts.append(f"Also {', '.join(alike)}.\n\n")
    return "".join(parts).rstrip() + "\n"


def manual_page(command: click.Command, version: str) -> str:
    """The manual page in roff, for ``man trestle``."""
    whole, *rest = entries(command)
    sentence = whole.help.partition(":")[2].strip().rstrip(".")
    lines = [
        '.\\" Made by `python -m bridge.manual` from the commands themselves.',
        f'.TH TRESTLE 1 {_DATE} "Trestle {version}"', ".SH NAME", f"trestle \\- {_roff(sentence)}",
        ".SH SYNOPSIS", ".B trestle", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR ...]",
        ".SH DESCRIPTION", _roff(whole.help), ".SH OPTIONS", *_listed(whole.options),
        ".SH COMMANDS",
    ]  # fmt: skip
    for entry in rest:
        lines += [f".SS {_roff(entry.usage)}", *_paragraphs(entry.help), *_listed(entry.options)]
    lines.append(".SH EXIT STATUS")
    for code, words in _EXIT:
        lines += [".TP", f".B {code}", _roff(words)]
    lines += [
        ".SH ENVIRONMENT", ".TP", ".B TRESTLE_APPSERVICE_AS_TOKEN",
        "The value of appservice.as_token; every other secret of the settings has a variable of",
        "that form too. It beats the file.",
        ".SH FILES", ".TP", ".I config.yaml", "The settings.", ".TP", ".I registration.yaml",
        "What the homeserver is told of us; it holds secrets.",
    ]  # fmt: skip
    return "".join(f"{part}\n" for line in lines for part in _fold(line))


def _entries(command: click.Command, context: click.Context) -> Iterator[Entry]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    options = [
        Option(*record)
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)  # Arguments are in the usage.
        and (record := parameter.get_help_record(context)) is not None
    ]
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))
    yield Entry(context.command_path, " ".join(usage.split()), text, options)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.commands[name]
            yield from _entries(inner, click.Context(inner, info_name=name, parent=context))


def _fold(line: str) -> list[str]:
    """Cut a line of roff, which is to be short; a request must stay whole."""
    if len(line) <= 79 or line.startswith("."):
        return [line]
    parts = textwrap.wrap(line, 76, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{part}" if part.startswith((".", "'")) else part for part in parts]


def _listed(options: list[Option]) -> Iterator[str]:
    for one in options:
        yield from (".TP", f"\\fB{_roff(one.flags)}\\fR", _roff(" ".join(one.words.split())))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _roff(" ".join(paragraph.split()))


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    text = text.replace("’", "'")
    return f"\\&{text}" if text.startswith((".", "'")) else text
