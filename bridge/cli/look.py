"""Looking at an installation: ``doctor``, ``registration``, ``modules``."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bridge.cli.group import (
    CONFIG,
    JSON,
    finished,
    main,
    quietly,
    refuse_unseen,
    run_until_told,
    shows,
)
from bridge.config import load
from bridge.core.host.catalogue import Installed, describe, find_module, installed
from bridge.doctor import Doctor, Finding
from bridge.init import registration_text, write_registration
from bridge.sdk.errors import ConfigError
from bridge.settings.optionwords import options_of

_BEHIND_MARK = 5
"""The column where a finding's words begin."""


@main.command()
@CONFIG
@click.option(
    "--registration",
    type=click.Path(path_type=Path),
    help="The registration file.  [default: beside the settings]",
)
@JSON
def doctor(config: Path, registration: Path | None, as_json: bool) -> None:
    """Say what is wrong with this installation, and the way out.

    Trestle may be running or not. Exits with 0 if nothing is bad, with 1 if something is, and with
    2 if the settings cannot be read.
    """
    try:
        settings = quietly(config)
    except ConfigError as error:
        if as_json:
            _print_json([Finding(check="settings", level="bad", sentence=str(error))])
        raise
    file = registration or config.parent / "registration.yaml"
    findings = finished(run_until_told(Doctor(settings, file).examine))
    if as_json:
        _print_json(findings)
    else:
        for finding in findings:
            click.echo(f"{_mark(finding)} {_for_screen(f'{finding.check}: {finding.sentence}')}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)


def _print_json(findings: Sequence[Finding]) -> None:
    click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))


def _for_screen(text: str) -> str:
    """Wrap what stands behind a mark, where somebody reads it; a program has it in one line."""
    if not sys.stdout.isatty():
        return text
    # What is to be copied, a URL or a command, is never cut.
    uncut = re.sub("`[^`]+`", lambda command: command[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        uncut, max(20, shutil.get_terminal_size().columns - _BEHIND_MARK),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return f"\n{' ' * _BEHIND_MARK}".join(lines).replace("\0", " ")


def _mark(finding: Finding) -> str:
    match finding.level:
        case "bad":
            return click.style("BAD ", fg="red")
        case "note":
            return click.style("note", fg="yellow")
        case "ok":
            return click.style("ok  ", fg="green")


@main.command()
@CONFIG
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where to write it; `-` prints it.  [default: beside the settings]",
)
def registration(config: Path, output: Path | None) -> None:
    """Write registration.yaml as the settings ask for it."""
    if output == Path("-"):
        refuse_unseen()
        click.echo(registration_text(load(config)), nl=False)
        return
    settings = load(config)
    path = output or config.parent / "registration.yaml"
    write_registration(settings, path)
    click.echo(f"Wrote {path}. Restart the homeserver, so that it reads it.")


@main.command()
@click.argument("name", required=False)
@JSON
@shows
def modules(name: str | None, as_json: bool) -> None:
    """List the installed modules, or the settings of one."""
    if as_json:
        rows = [_described(one) for one in ([name] if name else sorted(installed()))]
        click.echo(json.dumps(rows[0] if name else rows, indent=2, default=str))
    elif name:
        click.echo("\n".join(_settings_of(name)))
    else:
        list_modules()


def _described(name: str) -> dict[str, Any]:
    module = find_module(name, "")
    info, model = describe(module)
    return {
        "name": name, "kind": _kind(module), "summary": info.summary, "docs": info.docs,
        "settings": [one._asdict() for one in options_of(model)],
    }  # fmt: skip


def _settings_of(name: str) -> Iterator[str]:
    module = find_module(name, "")
    info, model = describe(module)
    yield f"{name} ({_kind(module)}): {info.summary}"
    for one in options_of(model):
        default = one.without if one.required else f"default: {one.without}"
        yield f"\n{one.key}  ({one.takes}; {default})".replace("`", "")
        yield click.wrap_text(one.help, initial_indent="    ", subsequent_indent="    ")
    if info.docs:
        yield f"\nMore: {info.docs}"


def _kind(module: Installed) -> str:
    return "bot" if module.is_bot else "network"


def list_modules(indent: str = "") -> None:
    """Print the installed modules, a line each."""
    for name, module in sorted(installed().items()):
        info, _ = describe(module)
        click.echo(f"{indent}{name} ({_kind(module)}): {info.summary}")
