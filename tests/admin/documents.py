"""A good configuration, and the same with something changed."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.matrix.registration import random_localpart, random_token

AS_TOKEN, HS_TOKEN = "a-token-for-the-homeserver", "a-token-of-the-homeserver"
GOOD: Mapping[str, Any] = {
    "homeserver": {"url": "https://matrix.example.org", "server_name": "example.org"},
    "appservice": {"as_token": AS_TOKEN, "hs_token": HS_TOKEN, "sender_localpart": "_trestle.x"},
    "modules": {"dice": {"module": "dice"}},
}
MISSING = object()
"""The value of what is taken out."""


def changed(path: str, value: object) -> dict[str, Any]:
    """The good document with one key set, or taken out."""
    document = copy.deepcopy(dict(GOOD))
    *sections, name = path.split("/")
    place = document
    for section in sections:
        place = place.setdefault(section, {})
    if value is MISSING:
        del place[name]
    else:
        place[name] = value
    return document


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    """The text as a configuration file."""
    file = folder / "config.yaml"
    file.write_text(text)
    file.chmod(mode)
    return file


def filled_in(text: str) -> str:
    """The example with tokens and a sender in the places for them."""

    def put_in(match: "re.Match[str]") -> str:
        value = random_localpart() if "sender" in match[1] else random_token()
        return f"{match[1]}: {value}"

    return re.sub(r"(\w+): CHANGE ME", put_in, text)
