"""Backups: ``backup``, ``restore``."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bridge.cli.group import (
    CONFIG,
    JSON,
    finished,
    log_errors_alone,
    main,
    quietly,
    run_until_told,
)
from bridge.config import read_essentials, read_settings
from bridge.logs import Log
from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.settings.document import parse, read_bytes
from bridge.settings.records import Settings
from bridge.storage.archive import Manifest, Reader, reading
from bridge.storage.backup import MASTER_KEY, Report, Wanted, back_up
from bridge.storage.restore import Restore, Restored
from bridge.upgrade.files import is_writable, put_text

_FILE = click.argument("file", type=click.Path(path_type=Path))
_REGISTRATION = "registration.yaml"


@main.command(short_help="Write everything into one file.")
@_FILE
@CONFIG
@click.option(
    "--with-master-key/--without-master-key", default=True, show_default=True,
    help="Whether to include the key that opens the stored credentials.",
)  # fmt: skip
@click.option(
    "--without-day-keys",
    is_flag=True,
    help="Leave out the keys to what people said, so that nobody reads it from the file.",
)
@click.option("--with-config", is_flag=True, help="Include config.yaml and registration.yaml.")
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@JSON
def backup(
    file: Path, config: Path, with_master_key: bool, without_day_keys: bool, with_config: bool,
    force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write everything into one file, as it is at this moment.

    Trestle may keep running. The file is whole or it is not there at all, and only its owner can
    read it, since it holds secrets.
    """
    Log("console", "error").use()
    settings = read_essentials(config)
    wanted = Wanted(
        master_key=with_master_key,
        day_keys=not without_day_keys,
        settings=_own_files(config) if with_config else None,
    )

    async def work() -> Manifest:
        with shown() as report:
            return await back_up(
                file, settings.database, settings.state_dir, clock=SystemClock(), wanted=wanted,
                server_name=settings.server_name, force=force, report=report,
            )  # fmt: skip

    # It may be cut off while a database is stopped that ran for it, with the file in its place.
    so = f"No backup was made, unless {file} is there: it is whole"
    if force and file.exists():
        so = f"{file} is whole: the new backup, or the one that was there"
    manifest = finished(run_until_told(work), cut=so)
    if as_json:
        click.echo(json.dumps({"file": str(file), **_in_short(manifest)}, indent=2))
        return
    click.echo(f"Wrote {file} ({file.stat().st_size / 1e6:.1f} MB): {_contents(manifest)}")
    for line in _keys_in_words(manifest, (settings.state_dir / MASTER_KEY).exists()):
        click.echo(line)
    if not with_config:
        click.echo(
            f"{config.name} and {_REGISTRATION} are not inside: keep copies, or use --with-config."
        )


@main.command(short_help="Replace what is there with a backup.")
@_FILE
@CONFIG
@click.option("--check", is_flag=True, help="Only read the file and say what is in it.")
@click.option(
    "--with-config", is_flag=True,
    help="Restore config.yaml and registration.yaml too, if they are in the backup.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Restore over what is there, which is kept aside.")
@JSON
def restore(
    file: Path, config: Path, check: bool, with_config: bool, force: bool, as_json: bool
) -> None:
    """Replace what is there with a backup. Trestle must be stopped.

    The whole file is checked before anything is touched. However it ends, the state is either the
    old one or the new one.
    """
    with reading(file) as found:
        if check:
            _tell(f"{file} is whole", found.manifest, as_json=as_json)
            return
        files = _files_to_put(found, config, file, force=force) if with_config else {}
        settings = _settings_from(files[config], config) if config in files else quietly(config)
        if settings.homeserver.server_name != found.manifest.server_name:
            raise TrestleError(
                f"the backup is of a Trestle at {found.manifest.server_name}, but {config} is for "
                f"{settings.homeserver.server_name}: the names in it would be wrong"
            )
        with shown() as report:
            one = Restore(
                found, settings.database, settings.state_dir, clock=SystemClock(), force=force,
                report=report,
            )  # fmt: skip
            done = run_until_told(one.run)
        so = "Everything is as it was"
        if one.is_done:
            so = "The state was restored" + (", the settings were not" if files else "")
        restored = finished(done, cut=so)
        copies = _put(files)
        if as_json:
            told = {**_in_short(found.manifest), **_restored_in_short(restored)}
            told["config_aside"] = [str(copy) for copy in copies]
            click.echo(json.dumps(told, indent=2))
            return
        click.echo(f"Restored {_contents(found.manifest)}")
        for line in _restored_in_words(restored, config, list(files), copies):
            click.echo(line)


@contextmanager
def shown() -> Iterator[Report]:
    """Show how far it is, where somebody can see it."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("looking", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield report


def _own_files(config: Path) -> dict[str, bytes]:
    """The admin's own files. Raises ``ConfigError`` for one that we may not read."""
    found = {"config.yaml": read_bytes(config)[0]}
    registered = config.parent / _REGISTRATION
    if registered.exists():
        try:
            found[_REGISTRATION] = registered.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{registered} cannot be read: {error.strerror}; let this user's group read it "
                "(chgrp, chmod 640), as it may read the settings, or leave --with-config out"
            ) from error
    return found


def _files_to_put(found: Reader, config: Path, file: Path, *, force: bool) -> dict[Path, bytes]:
    """Where the admin's own files go. Raises ``TrestleError`` if they cannot go there."""
    places = {"config.yaml": config, _REGISTRATION: config.parent / _REGISTRATION}
    there = {n: p for n, p in places.items() if f"settings/{n}" in found.manifest.members}
    if "config.yaml" not in there:
        raise TrestleError(
            "the backup was made without --with-config; write config.yaml yourself, then restore "
            "without it"
        )
    for path in there.values():
        if path.exists() and not force:
            raise TrestleError(f"{path} is there already; leave --with-config out, or add --force")
        if not is_writable(path):
            raise TrestleError(
                f"this user may not write {path}. As a user who may, take it out of the backup "
                f"(`unzip -p {file} settings/{path.name}` prints it), then restore without "
                "--with-config"
            )
    return {path: found.read(f"settings/{name}") for name, path in there.items()}


def _settings_from(data: bytes, config: Path) -> Settings:
    document = parse(data, f"{config.name} in the backup")
    folder = config.absolute().parent
    settings = read_settings(document, folder=folder, environment=os.environ)
    log_errors_alone(settings)
    return settings


def _put(files: Mapping[Path, bytes]) -> list[Path]:
    """Write the admin's own files, each in one step; give the copies of what was there."""
    copies = []
    for path, data in files.items():
        try:
            copy = put_text(path, data, why="restore")
        except ConfigError as error:
            raise TrestleError(
                f"the state was restored, but {error}. Take the file out of the backup by hand: "
                "it is a zip"
            ) from error
        copies += [copy] if copy is not None else []
    return copies


def _tell(head: str, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_in_short(manifest), indent=2))
        return
    click.echo(f"{head}: {_contents(manifest)}")
    for line in _keys_in_words(manifest, manifest.has_master_key):
        click.echo(line)


def _contents(manifest: Manifest) -> str:
    made = manifest.made_at.isoformat(" ", "minutes")
    return (
        f"{manifest.rows} rows of {manifest.server_name} as of {made}, made by Trestle "
        f"{manifest.trestle} (schema {manifest.schema}, Postgres {manifest.postgres}, generation "
        f"{manifest.generation})."
    )


def _in_short(manifest: Manifest) -> dict[str, Any]:
    return {
        "made_at": manifest.made_at.isoformat(), "trestle": manifest.trestle,
        "server_name": manifest.server_name, "schema": manifest.schema,
        "postgres": manifest.postgres, "generation": manifest.generation, "rows": manifest.rows,
        "master_key": manifest.has_master_key, "day_keys": manifest.has_day_keys,
        "config": "settings/config.yaml" in manifest.members,
    }  # fmt: skip


def _keys_in_words(manifest: Manifest, has_master: bool) -> Iterator[str]:
    if manifest.has_master_key:
        yield (
            "The master key is inside: whoever has the file can open the stored credentials. "
            "Guard it as you guard the state directory."
        )
    elif has_master:
        yield (
            "The master key is not inside: keep a copy of it elsewhere. Without it the stored "
            "credentials cannot be opened, and people must sign in again."
        )
    else:
        yield "The master key is not inside: there is none in the state directory."
    if manifest.has_day_keys:
        yield "The day keys are inside: whoever has the file can read what people said."
    else:
        yield (
            "The day keys are not inside: what was on its way, parked or noted for a timer can be "
            "read only where the state directory still has them; anywhere else it is parked as "
            "unreadable, and lost."
        )


def _restored_in_short(restored: Restored) -> dict[str, Any]:
    return {
        "restored_rows": restored.rows, "days_over": restored.days_over,
        "generation": restored.generation,
        "aside": None if restored.aside is None else str(restored.aside),
        "days_without_key": restored.days_without_key,
    }  # fmt: skip


def _restored_in_words(
    restored: Restored, config: Path, files: list[Path], copies: list[Path]
) -> Iterator[str]:
    yield f"This is generation {restored.generation}, with {restored.rows} rows."
    if restored.days_over:
        yield f"{restored.days_over} days in it are older than is kept, and were left out."
    if restored.days_without_key:
        yield (
            f"The keys of {restored.days_without_key} days are missing: what was on its way then "
            "cannot be read."
        )
    if not restored.has_master_key:
        yield (
            "There is no master key in the state directory: if you had one there, put it back, or "
            "people must sign in again."
        )
    for path in files:
        yield f"Wrote {path}."
    for copy in copies:
        yield f"What was there before is kept in {copy}."
    if restored.aside is not None:
        yield f"The old state is kept in {restored.aside}; delete it once you are sure."
    if not files:
        yield (
            f"{config} and the registration were left as they are: they must be the ones that the "
            "homeserver knows."
        )
    yield f"Next: run `trestle doctor -c {config}`, then start Trestle."
