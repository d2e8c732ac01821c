"""``docs/reference/config.md``: every key of the settings, made from their declaration."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from bridge.running.reload import NEEDS_RESTART
from bridge.sdk.secret import Secret
from bridge.settings.records import Key, Settings, keys_of, name_in_file
from bridge.settings.shapes import shown, takes

_HEAD = """\
# Settings

Made from the code (`python -m bridge.manual`). `trestle init` writes a `config.yaml`;
[config.example.yaml](../../config.example.yaml) shows every key in its place.

## Looking at them

* `trestle config check` names everything that is wrong, modules' options included, and starts
  nothing. It exits with 0 if all is right, else with 2.
* `trestle config show` prints what takes effect and, behind each value, where it comes from:
  the file and line, an environment variable, a secret's file, the default. Secrets are hidden.
* `trestle config drift` asks the running Trestle where it differs from the file.

A key that does not exist is an error, so that a slip of the pen does not pass for a setting.
Keys at the top that begin with `x-` are yours: a place for YAML anchors.

## Secrets

A key marked *secret* may stand in the file, in a file of its own (`<key>_file`, relative to the
settings) or in an environment variable, which beats the others. So may a module's secret options:
in a file of their own at any depth (`password_file`), and in a variable if they are not inside
another key: `TRESTLE_MODULES_<INSTANCE>_<OPTION>`, as in `TRESTLE_MODULES_LIBERA_SASL_PASSWORD`.

Settings that hold a secret, a secret's file or a key in `state_dir` are refused if everybody on
the machine can read them, with the `chmod` that mends it. Files below `/run/secrets` are left to
the container runtime.

## Changing them while Trestle runs

`trestle reload`, or `SIGHUP`, has the file read again. First everything is checked and made; if
anything is wrong, it is said and nothing changes. Then instances are added, changed and removed
one by one, without disturbing the others: messages to an instance that is changed wait until it
is back; those to one that is removed are parked, and their senders told. `permissions`,
`rooms`, `logging` and `limits` take effect at once. Sections marked *restart* are read at the
start only; the answer names each changed key in them. If the registration would now be another,
the answer says so: `trestle registration` writes it, and the homeserver must be
restarted.

## After an upgrade

`trestle config upgrade` brings a newer version's keys and words into your file: it compares your
file with the example of its version (named at its head) and that of this version. New keys come
as comments with their default, in their place; a shipped comment or default that you left as it
was becomes the new one; a key with a new name gets it; a key that is no longer known becomes a
comment. Everything else, your comments, order, quotes,
anchors and values, stays as it is, byte for byte. The difference is shown first (`--diff` shows
it only, `--yes` does not ask), and the file as it was is kept beside it.

## Rooms

```yaml
rooms:
  - room: "#lobby:example.org"
    bridge: {libera: "#lobby", oftc: "#lobby"}
    bots: [dice]
```

What is listed is set up at the start and at a reload, and tried again as long as it fails; doing
it twice changes nothing. The rules are those for a person who asks for it: the network must
consent, the room must not be encrypted, and one of the admins in `permissions` must have the
power to change the room's settings; that admin counts as the one who bridged it. `@trestle`
enters a public room by itself; it must be invited into others. What is taken off the list is
undone; what people set up themselves stays, and `trestle config drift` names it.

## The keys
"""


def config_page() -> str:
    """The text of ``docs/reference/config.md``."""
    lines = [_HEAD]
    for name, (key, kind, field) in keys_of(Settings).items():
        when = " *Restart.*" if name in NEEDS_RESTART else ""
        lines.append(f"### {name}\n\n{key.doc}{when}\n")
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            lines += _table(name, kind)
        elif not key.sample and key.example is None and name != "modules":
            lines.append(f"Default: {_default(key, field)}\n")
    return "\n".join(lines).rstrip() + "\n"


def _table(section: str, kind: type) -> Iterator[str]:
    yield "| key | takes | default | |"
    yield "|---|---|---|---|"
    for name, (key, hint, field) in keys_of(kind).items():
        spelled = name_in_file(name, key)
        yield _row(section, spelled, key, hint, _default(key, field), key.doc)
        for more, words in key.also.items():
            yield _row(section, more, key, hint, "none", words)
    yield ""


def _row(section: str, name: str, key: Key, hint: Any, default: str, words: str) -> str:
    if key.private:
        variable = f"TRESTLE_{section}_{name}".upper()
        words += f" *Secret:* also `{name}_file` or `{variable}`."
    cell = words.replace("|", "\\|")
    return f"| `{name}` | {_takes(hint, key)} | {default} | {cell} |"


def _takes(hint: Any, key: Key) -> str:
    if hint in (Secret, tuple[Secret, ...]):
        return "a token"
    shapes = {"url": "a URL", "server": "a server name", "localpart": "a localpart",
              "database": "`embedded` or a URL"}  # fmt: skip
    return takes(hint, shapes.get(key.shape, "text"))


def _default(key: Key, field: "dataclasses.Field[Any]") -> str:
    if key.otherwise:
        return key.otherwise
    if field.default_factory is not dataclasses.MISSING:
        return shown(field.default_factory())
    return "must be given" if field.default is dataclasses.MISSING else shown(field.default)
