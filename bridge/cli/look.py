"""Looking at an installation: ``doctor``, ``registration``, ``modules``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from bridge.cli.group import CONFIG, JSON, finished, main, quietly, run_until_told
from bridge.config import load
from bridge.core.catalogue import describe, installed
from bridge.doctor import Doctor, Finding
from bridge.init import write_registration
from bridge.sdk.errors import ConfigError


@main.command()
@CONFIG
@click.option(
    "--registration", type=click.Path(path_type=Path), help="Default: beside the settings."
)
@JSON
def doctor(config: Path, registration: Path | None, as_json: bool) -> None:
    """Say what is wrong with this installation, and the way out.

    Works whether Trestle runs or not. Ends with 0, with 1 if something is bad, and with 2 if the
    settings cannot be read.
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
            click.echo(f"{_mark(finding)} {finding.check}: {finding.sentence}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)


def _print_json(findings: Sequence[Finding]) -> None:
    click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))


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
    list_modules()


def list_modules(indent: str = "") -> None:
    """Print the installed modules, a line each."""
    for name, module in sorted(installed().items()):
        info, _ = describe(module)
        kind = "bot" if module.is_bot else "network"
        click.echo(f"{indent}{name} ({kind}): {info.summary}")
