"""``trestle init``: settings and registration, with random tokens, made for one homeserver."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bridge.assembly import namespaces_of, protocols_of
from bridge.config import read_settings
from bridge.core.catalogue import find_module
from bridge.matrix.registration import random_localpart, random_token, registration
from bridge.sdk.errors import ConfigError
from bridge.settings import Settings


def draft(
    *,
    homeserver_url: str,
    server_name: str,
    modules: Sequence[str],
    changes: Mapping[str, object],
    folder: Path,
) -> tuple[dict[str, Any], Settings]:
    """Make a document of settings with fresh tokens, and check it.

    ``modules`` are ``module`` or ``module:instance``; ``changes`` maps dotted paths to values.
    Raises ``ConfigError`` naming what is wrong.
    """
    document: dict[str, Any] = {
        "homeserver": {"url": homeserver_url, "server_name": server_name},
        "appservice": {
            "as_token": random_token(),
            "hs_token": random_token(),
            "sender_localpart": random_localpart(),
        },
        "database": {"url": "embedded"},
        "state_dir": "state",
        "permissions": {"*": "none", server_name: "user"},
        "modules": {},
    }
    for text in modules:
        module, _, instance = text.partition(":")
        find_module(module, "--module")
        document["modules"][instance or module] = {"module": module}
    for path, value in changes.items():
        _put(document, path, value)
    settings = read_settings(document, folder=folder)
    namespaces_of(settings)
    return document, settings


def write_files(
    document: Mapping[str, Any], settings: Settings, folder: Path, *, force: bool
) -> tuple[Path, Path]:
    """Write ``config.yaml`` and ``registration.yaml``, readable by their owner only.

    Raises ``ConfigError`` if one is there already, unless ``force``.
    """
    config, registered = folder / "config.yaml", folder / "registration.yaml"
    there = [path.name for path in (config, registered) if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(there)} exist already in {folder}; --force writes over them (new "
            "tokens: the homeserver must be told), --directory chooses another place"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_private(
        config,
        to_yaml(document, "# Settings of Trestle; `config.example.yaml` explains each key.\n"),
    )
    write_registration(settings, registered)
    return config, registered


def write_registration(settings: Settings, path: Path) -> None:
    """Write the registration that the settings ask for."""
    wanted = registration(settings.appservice, namespaces_of(settings), protocols_of(settings))
    head = "# For the homeserver; made by `trestle registration`. It holds secrets.\n"
    write_private(path, to_yaml(wanted, head))


def homeserver_lines(registered: Path, settings: Settings) -> str:
    """What the admin puts into the homeserver's configuration."""
    return (
        "app_service_config_files:\n"
        f"  - {registered.absolute()}\n"
        "# The homeserver's user must be able to read that file; copy it if need be.\n"
        f"# It must reach Trestle at {settings.appservice.url}"
    )


def to_yaml(data: Mapping[str, Any], head: str = "") -> str:
    """Write a mapping as YAML behind a comment."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    output = io.StringIO()
    yaml.dump(dict(data), output)
    return head + output.getvalue()


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def parse_change(text: str) -> tuple[str, object]:
    """Read ``--set path=value``; the value is YAML. Raises ``ConfigError``."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set takes key=value, not {text!r}")
    return path.strip(), YAML(typ="safe").load(value)


def _put(document: dict[str, Any], path: str, value: object) -> None:
    *folders, name = path.split(".")
    place = document
    for folder in folders:
        inner = place.setdefault(folder, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{folder} is a value, not a section", path=path)
        place = inner
    place[name] = value
