"""The settings: ``trestle config check``, ``show``, ``upgrade``, ``drift``; ``reload``."""

import contextlib
import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bridge import __version__
from bridge.cli.asking import ask_program
from bridge.cli.group import (
    CONFIG,
    JSON,
    main,
    place_of,
    refuse_unseen,
    shows,
)
from bridge.config import Reading, read, read_document
from bridge.logs import hide, redact
from bridge.running.effective import as_yaml, effective
from bridge.running.roster import module_problems, namespaces_of
from bridge.running.workshop import model_of
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.secret import Secret
from bridge.settings.confidential import exposed_keys
from bridge.settings.document import parse, read_text
from bridge.settings.options import check_module, secrets_in
from bridge.upgrade import MOVES, Merged, base_of, merge, refuse_newer, shipped
from bridge.upgrade.files import replace_text, replaced_outside

_PRIVATE = re.compile(r"(?i)(token|secret|pass\w*|key)(_old|s)?$")
"""Names of keys whose texts are shown to nobody."""
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:(\S+)@")


@main.group()
def config() -> None:
    """The settings file: check it, see it, bring it up to date."""


@config.command("check")
@CONFIG
@JSON
def check(config: Path, as_json: bool) -> None:
    """Name everything that is wrong with it, modules' options included.

    Nothing is started and nobody is asked. Exits with 0 if all is right, else with 2.
    """
    try:
        reading = read(config)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps([{"path": "", "reason": error.reason}], indent=2))
        raise
    problems = list(_problems(reading))
    if as_json:
        rows = [{"path": one.path, "reason": one.reason} for one in problems]
        click.echo(json.dumps(rows, indent=2))
    elif problems:
        for problem in problems:
            click.echo(str(problem))
    else:
        settings = reading.get()
        names = ", ".join(sorted(settings.modules)) or "no module is switched on"
        click.echo(f"{config} is right: {names}.")
        if _is_behind(config):
            click.echo(
                f"Trestle {__version__} has more to add to it: run `trestle config upgrade`."
            )
        for sentence in replaced_outside(config):
            click.echo(f"But {sentence}.")
    if problems:
        raise click.exceptions.Exit(2)


@config.command("show")
@CONFIG
@JSON
@shows
def show(config: Path, as_json: bool) -> None:
    """Show what takes effect and where it comes from, without secrets."""
    reading = read(config)
    _hide_secrets(reading)
    rows = effective(reading, config, read_text(config))
    if as_json:
        found = [
            {"key": ".".join(row.path), "value": row.value, "source": row.source} for row in rows
        ]
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(as_yaml(rows), nl=False)


@config.command("upgrade")
@CONFIG
@click.option("--diff", "only_diff", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Change the file without asking.")
def upgrade(config: Path, only_diff: bool, yes: bool) -> None:
    """Bring this version's new keys and words into the file.

    Your comments, your order and your values stay. What would change is shown first; a copy of
    the file as it was is kept beside it.
    """
    if only_diff:
        refuse_unseen()
    text = read_text(config)
    merged = _merge(text)
    if merged.text == text:
        click.echo(f"{config} is up to date with Trestle {__version__}.")
        return
    _hide_secrets(read(config))
    _hide_private(parse(text, str(config)))
    for line in _diff(text, merged.text, str(config)):
        click.echo(line)
    click.echo()
    for note in merged.notes:
        click.echo(f"* {note}")
    new = _problems_of(merged.text, config)
    old = _problems_of(text, config)
    made = [one for one in new if one not in old]
    if made:
        raise ConfigError(f"{config} would no longer be right: {made[0]}")
    for problem in new:
        click.echo(f"* still wrong with it: {problem}")
    if only_diff:
        return
    if not yes and not click.confirm(f"\nChange {config}?"):
        raise click.exceptions.Exit(1)
    copy = replace_text(config, merged.text.encode(), why=__version__)
    click.echo(f"Changed {config}; the file as it was is in {copy.name}.")


@config.command("drift")
@CONFIG
@JSON
@shows
def drift(config: Path, as_json: bool) -> None:
    """Say where the running Trestle differs from the settings file.

    That is: what a reload would change, what waits for a restart, and which of the declared rooms
    (`rooms:`) are not as declared. Exits with 1 if there is anything.
    """
    answer = _ask(config, "GET", "/drift")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for line in _sentences(answer, "a reload would have"):
            click.echo(line)
    if any(answer.values()):
        raise click.exceptions.Exit(1)
    if not as_json:
        click.echo("Trestle runs as the settings say.")


@main.command("reload", short_help="Have the running Trestle read its settings again.")
@CONFIG
@JSON
def reload(config: Path, as_json: bool) -> None:
    """Have the running Trestle read its settings again.

    Instances are added, changed and removed without disturbing the others; permissions, limits,
    the log and the declared rooms take effect too. What needs a restart is named. If anything is
    wrong with the settings, nothing changes.
    """
    answer = _ask(config, "POST", "/reload")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in _sentences(answer, "done"):
        click.echo(line)
    if not any(answer.values()):
        click.echo("Nothing to change.")


def _ask(config: Path, method: str, path: str) -> dict[str, list[str]]:
    async def refuse() -> Any:
        raise TrestleError(
            f"no Trestle is running in {place_of(config)}; start it. If one is running with "
            "another state_dir, restart it"
        )

    found = ask_program(config, method, path, limit=300, alone=refuse)
    return {**found, "notes": [*found["notes"], *replaced_outside(config)]}


def _sentences(answer: dict[str, list[str]], word: str) -> Iterator[str]:
    for sentence in answer["done"]:
        yield f"{word}: {sentence}"
    for key in answer["restart"]:
        yield f"needs a restart: {key}"
    yield from answer["notes"]


def _merge(text: str) -> Merged:
    examples = shipped()
    parse(text, "the file")  # Its sentence names the line.
    refuse_newer(text, __version__)
    old = examples[base_of(text, examples)]
    return merge(text, old, examples[__version__], version=__version__, moves=MOVES)


def _is_behind(config: Path) -> bool:
    try:
        return bool(_merge(read_text(config)).notes)
    except ConfigError:
        return False


def _problems(reading: Reading) -> Iterator[ConfigError]:
    yield from reading.problems
    if reading.settings is None:
        return
    named = list(module_problems(reading.settings))
    yield from named
    try:
        namespaces_of(reading.settings)
    except ConfigError as error:
        if str(error) not in map(str, named):
            yield error
    yield from exposed_keys(reading.settings.state_dir)


def _problems_of(text: str, config: Path) -> list[str]:
    document = parse(text, str(config))
    reading = read_document(document, folder=config.absolute().parent, environment=os.environ)
    return [str(one) for one in _problems(reading)]


def _hide_secrets(reading: Reading) -> None:
    """Have nothing of them printed: a diff shows lines beside those that change."""
    settings = reading.settings
    if settings is None:
        return
    hide(settings.appservice.as_token, *settings.appservice.hs_tokens)
    for module in settings.modules.values():
        with contextlib.suppress(ConfigError):
            hide(*secrets_in(check_module(model_of(module), module)))


def _hide_private(value: object, *, private: bool = False) -> None:
    """Hide what stands at keys that sound like secrets, whatever is wrong with the file."""
    match value:
        case dict():
            for name, one in value.items():
                _hide_private(one, private=private or bool(_PRIVATE.search(str(name))))
        case list():
            for one in value:
                _hide_private(one, private=private)
        case str() | int() if private and not isinstance(value, bool):
            # A number is one where the quotes were forgotten.
            told = str(value)
            hide(*map(Secret, (told, *told.splitlines())))
        case str() if (found := _PASSWORD_IN_URL.search(value)) is not None:
            hide(Secret(found[1]))


def _diff(before: str, after: str, name: str) -> Iterator[str]:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} (new)", lineterm=""
    )
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        colour = colours.get(line[:1])
        shown = redact(line)
        yield shown if line.startswith(("+++", "---")) else click.style(shown, fg=colour)
