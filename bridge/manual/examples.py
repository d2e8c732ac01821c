"""The examples of settings and registration, made from the declarations of both."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.init import to_yaml
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.registration import registration
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings.records import (
    Address,
    AppserviceSettings,
    Key,
    Settings,
    keys_of,
    name_in_file,
)

_WIDTH = 96
_MODULES = """\
  libera:
    module: irc
    # A channel's operators are asked before it is bridged. `true` only on a network that you run.
    # own_network: false
    # Who answers for the bridge; operators are told.
    contact: admin@example.org
    servers:
      - host: irc.example.org
        port: 6697
  dice:
    module: dice
"""


def config_example() -> str:
    """The text of ``config.example.yaml``."""
    lines = [
        f"# Settings of Trestle {__version__}. `trestle init` writes a config.yaml of your own.",
        "# Lines that begin with `# ` and a key show the default.",
        "",
    ]
    for name, (key, kind, _) in keys_of(Settings).items():
        lines += _comment(key.doc, 0)
        if name == "modules":
            lines += [f"{name}:", *_MODULES.rstrip().splitlines()]
        elif isinstance(kind, type) and keys_of_or_none(kind):
            lines.append(f"{name}:")
            lines += _section(kind)
        else:
            lines += _entry(name, key, _default(Settings, name), 0)
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def registration_example() -> str:
    """The text of ``registration.yaml.example``."""
    settings = AppserviceSettings(
        as_token=Secret("CHANGE ME"),
        hs_tokens=(Secret("CHANGE ME"),),
        sender_localpart="CHANGE ME",
        url="http://127.0.0.1:29333",
    )
    namespaces = Namespaces(
        server_name="example.org", sender_localpart="CHANGE ME", networks=[InstanceId("libera")]
    )
    head = (
        "# What the homeserver is told of Trestle. `trestle init` writes a registration.yaml\n"
        "# with random tokens; name that one in the homeserver's app_service_config_files.\n"
    )
    return to_yaml(registration(settings, namespaces, ["irc"]), head)


def keys_of_or_none(kind: type) -> Mapping[str, Any] | None:
    """The documented keys of a record, None if it is none."""
    try:
        return keys_of(kind) or None
    except TypeError:
        return None


def _section(kind: type) -> Iterator[str]:
    for name, (key, _, _) in keys_of(kind).items():
        shown = name_in_file(name, key)
        yield from _comment(key.doc, 2)
        yield from _entry(shown, key, _default(kind, name), 2)
        for more, words in key.also.items():
            yield from _comment(words, 2)
            yield f"  # {more}: CHANGE ME"


def _entry(name: str, key: Key, default: object, indent: int) -> Iterator[str]:
    space = " " * indent
    value = key.example if key.example is not None else default
    if isinstance(value, Mapping) and value:
        yield f"{space}{name}:"
        for line in to_yaml({k: _plain(v) for k, v in value.items()}).splitlines():
            yield f"{space}  {line}"
        return
    if key.sample:
        yield f"{space}# {name}:"
        for line in key.sample.splitlines():
            yield f"{space}#   {line}"
        return
    # What has an example must be given; what has only a default is shown and left out.
    mark = "" if key.example is not None else "# "
    yield f"{space}{mark}{name}: {_scalar(value)}"


def _comment(text: str, indent: int) -> Iterator[str]:
    space = " " * indent
    for line in textwrap.wrap(text, _WIDTH - indent - 2):
        yield f"{space}# {line}"


def _default(record: type, name: str) -> object:
    found = keys_of(record)[name][2]
    if found.default_factory is not dataclasses.MISSING:
        return found.default_factory()
    return None if found.default is dataclasses.MISSING else found.default


def _scalar(value: object) -> str:
    text = to_yaml({"x": _plain(value)})
    return text.removeprefix("x:").strip()


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Address | Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value
