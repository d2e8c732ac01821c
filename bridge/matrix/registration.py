"""The registration file: what the homeserver is told of us, made from the settings."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import ConfigError
from bridge.settings import AppserviceSettings


def random_token() -> str:
    """Make a token of 256 random bits."""
    return secrets.token_urlsafe(32)


def random_localpart() -> str:
    """Make the ``sender_localpart``: a name that nobody sees or guesses."""
    return "_trestle." + secrets.token_hex(12)


def reach_url(settings: AppserviceSettings) -> str:
    """Where the homeserver reaches us."""
    return settings.url or f"http://{settings.listen}"


def registration(
    settings: AppserviceSettings, namespaces: Namespaces, protocols: Sequence[str] = ()
) -> dict[str, Any]:
    """Make the registration (application service API, "Registration")."""
    expressions = namespaces.regexes()
    return {
        "id": settings.id,
        "url": reach_url(settings),
        "as_token": settings.as_token.reveal(),
        "hs_token": settings.hs_tokens[0].reveal(),
        "sender_localpart": settings.sender_localpart,
        "rate_limited": False,
        "receive_ephemeral": True,
        # Devices are made by PUT /devices (MSC4190); encryption will need them so.
        "io.element.msc4190": True,
        "protocols": sorted(protocols),
        "namespaces": {
            "users": [{"exclusive": True, "regex": one} for one in expressions["users"]],
            "aliases": [{"exclusive": True, "regex": one} for one in expressions["aliases"]],
            "rooms": [],
        },
    }


def read_registration(path: Path) -> dict[str, Any]:
    """Read a registration file. Raises ``ConfigError`` if it is none."""
    try:
        data = YAML(typ="safe").load(path.read_text())
    except (OSError, YAMLError) as error:
        raise ConfigError(f"the registration {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is no registration")
    return data


def differences(file: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say, a sentence each, where the file differs from what the settings ask for."""
    found = []
    for key, value in wanted.items():
        if file.get(key) == value:
            continue
        if key in {"as_token", "hs_token"}:
            found.append(f"{key} in the registration is not the one in config.yaml")
        else:
            found.append(f"{key} in the registration is {file.get(key)!r}, not {value!r}")
    return found
