"""The registration file: what the homeserver is told of us, made from the settings."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import ConfigError
from bridge.settings.records import AppserviceSettings
from bridge.wholefile import read_whole


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
    users = [{"exclusive": True, "regex": one} for one in expressions["users"]]
    if settings.double_puppets:
        # Not exclusive: they stay their own.
        users.append({"exclusive": False, "regex": namespaces.everybody()})
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
            "users": users,
            "aliases": [{"exclusive": True, "regex": one} for one in expressions["aliases"]],
            "rooms": [],
        },
    }


def read_registration(path: Path) -> dict[str, Any]:
    """Read a registration file. Raises ``ConfigError`` if it is none."""
    try:
        data = YAML(typ="safe", pure=True).load(read_whole(path)[0].decode())
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there; `trestle registration` writes it") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (YAMLError, ValueError) as error:  # Their texts quote the file, tokens and all.
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        place = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigError(
            f"{path}{place} is not YAML; `trestle registration` writes it anew"
        ) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is no registration; `trestle registration` writes it anew")
    return data


def differences(file: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say, a sentence each, where the file differs from what the settings ask for."""
    found = []
    for key, value in wanted.items():
        if file.get(key) == value:
            continue
        if key not in file:
            found.append(f"{key} is missing in the registration")
        elif key in {"as_token", "hs_token"}:
            found.append(f"{key} in the registration is not the one in config.yaml")
        elif key == "namespaces":
            found.append("the namespaces in the registration are not those of config.yaml")
        else:
            found.append(f"{key} in the registration is {file.get(key)!r}, not {value!r}")
    return found
