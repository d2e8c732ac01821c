"""``trestle init``: settings and registration, with random tokens, made for one homeserver."""

import contextlib
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridge import __version__
from bridge.config import read_settings
from bridge.core.host.catalogue import describe, find_module
from bridge.matrix.links import is_user_id
from bridge.matrix.registration import random_localpart, random_token, registration
from bridge.running.roster import check_modules, namespaces_of, protocols_of
from bridge.sdk.errors import ConfigError
from bridge.settings.document import Representer
from bridge.settings.options import model_in
from bridge.settings.records import Settings
from bridge.storage.files import make_state_dir
from bridge.storage.masterkeys import VARIABLE, MasterKeys, path_of
from bridge.wholefile import write_whole

_CONFIG, _REGISTRATION = "config.yaml", "registration.yaml"
_HEAD = f"# Settings of Trestle {__version__}; `config.example.yaml` explains each key.\n"
_STEP = re.compile(r"([^.\[\]]+)(?:\[(\d)\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An option that a module cannot do without, or that its author wants people to be asked."""

    path: str
    words: str
    kind: Any
    """Its type. Answers for anything but text, a secret or ``bool`` are read as YAML."""
    default: object = None
    required: bool


Ask = Callable[[Question], object]


def draft(
    *,
    homeserver_url: str,
    server_name: str,
    modules: Sequence[str],
    admins: Sequence[str] = (),
    changes: Mapping[str, object],
    folder: Path,
    ask: Ask | None = None,
) -> tuple[dict[str, Any], Settings]:
    """Make a document of settings with fresh tokens, and check it.

    ``modules`` are ``module`` or ``module:instance``; ``changes`` maps dotted paths to values;
    ``admins`` get that level, whatever else ``changes`` say of permissions; ``ask`` answers what
    else a module needs. Raises ``ConfigError`` naming what is wrong.
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
        name, wanted = instance or module, {"module": module}
        find_module(module, "--module")
        if document["modules"].setdefault(name, wanted) != wanted:
            raise ConfigError(
                f"two modules would be called {name}; give each a name of its own, for example "
                f"{module}:{module}2",
                path="--module",
            )
    for path, value in changes.items():
        _put(document, path, value)
    if isinstance(document["permissions"], dict):  # What is wrong is said when it is read.
        document["permissions"] |= dict.fromkeys(admins, "admin")
    _complete(document, ask)
    settings = read_settings(document, folder=folder)
    check_modules(settings)
    namespaces_of(settings)
    return document, settings


def check_admin(text: str) -> str:
    """Give the Matrix id. Raises ``ConfigError`` if it is none."""
    if not is_user_id(text):
        raise ConfigError(
            f"{text!r} is no Matrix id; write all of it, @you:example.org", path="--admin"
        )
    return text


def refuse_existing(folder: Path) -> None:
    """Raise ``ConfigError`` if one of our two files is in the folder already."""
    there = [name for name in (_CONFIG, _REGISTRATION) if os.path.lexists(folder / name)]
    if there:
        other = "; `trestle registration` makes the other one" if there == [_CONFIG] else ""
        raise ConfigError(
            f"{folder.absolute()} holds {' and '.join(there)} already{other}. --force writes new "
            "ones with new tokens, which the homeserver must be told; --directory chooses another "
            "place"
        )


def write_files(
    document: Mapping[str, Any], settings: Settings, folder: Path, *, force: bool
) -> tuple[Path, Path]:
    """Write ``config.yaml`` and ``registration.yaml``, readable by their owner only.

    Raises ``ConfigError`` if one is there already, unless ``force``, or if the folder refuses.
    Whatever ends it by an exception, what is there is what was there before.
    """
    if not force:
        refuse_existing(folder)
    config, registered = folder / _CONFIG, folder / _REGISTRATION
    wanted = registration_text(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            for path in (config, registered):
                undo.callback(_undo(path))
            _write(config, to_yaml(document, _HEAD).encode())
            _write(registered, wanted.encode())
            undo.pop_all()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error
    return config, registered


def _undo(path: Path) -> Callable[[], None]:
    """What puts back the file or link that is at the path now, or that there is none."""
    was_there = os.path.lexists(path)
    link = path.readlink() if path.is_symlink() else None
    data = path.read_bytes() if link is None and path.is_file() else None

    def undo() -> None:
        if link is not None:
            if not path.is_symlink():
                path.unlink(missing_ok=True)
                path.symlink_to(link)
        elif not was_there:
            path.unlink(missing_ok=True)
        # On a full disk the same could not be written again.
        elif data is not None and path.read_bytes() != data:
            _write(path, data)

    return undo


def check_master_key(settings: Settings) -> None:
    """Raise ``ConfigError`` if there is a master key that cannot be used."""
    MasterKeys.load(settings.state_dir)


def have_master_key(settings: Settings) -> bool:
    """Make the vault's master key unless there is one.

    False if the state directory cannot be written, by us or at this moment: then the first start
    makes it. Raises ``ConfigError`` if what is there is no key.
    """
    master = MasterKeys.load(settings.state_dir)
    try:
        make_state_dir(settings.state_dir)
        if not master.is_there:
            master.add()
    except OSError:
        return master.given
    return True


def place_of_master_key(settings: Settings) -> Path | None:
    """Where the key is or will be; None if it is not in a file. Does not look whether it is."""
    return None if VARIABLE in os.environ else path_of(settings.state_dir)


def write_registration(settings: Settings, path: Path) -> None:
    """Write the registration that the settings ask for. Raises ``ConfigError`` if it cannot."""
    text = registration_text(settings)
    try:
        _write(path, text.encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}; `-o -` prints it"
        ) from error


def registration_text(settings: Settings) -> str:
    """The registration that the settings ask for, for a file."""
    wanted = registration(settings.appservice, namespaces_of(settings), protocols_of(settings))
    return to_yaml(
        wanted, "# For the homeserver; made by `trestle registration`. It holds secrets.\n"
    )


def homeserver_lines(registered: Path, settings: Settings) -> str:
    """What the admin puts into the homeserver's configuration."""
    file = str(registered.absolute())
    files = to_yaml({"app_service_config_files": [file]})
    return (
        f"{files}# The homeserver's user must be able to read that file: else it does not start.\n"
        "# If that is not you, make a copy and name that one, as root on Debian:\n"
        f"#   install -o matrix-synapse -m 600 {shlex.quote(file)} "
        "/etc/matrix-synapse/trestle.yaml\n"
        f"# The homeserver must reach Trestle at {settings.appservice.url}"
    )


def to_yaml(data: Mapping[str, Any], head: str = "") -> str:
    """Write a mapping as YAML behind a comment."""
    yaml = YAML()
    yaml.Representer = Representer
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    output = io.StringIO()
    yaml.dump(dict(data), output)
    return head + output.getvalue()


def _of_its_group(mode: int) -> int:
    """What its group may do with a file: nothing where all others may, for nobody chose that."""
    return 0 if mode & 0o007 else mode & 0o070


def _write(path: Path, data: bytes) -> None:
    """Write a file of mode 0600.

    One that is there keeps its owner and, if nobody else had any, its group's rights.
    """
    about = path.stat() if path.exists() else None
    group = 0 if about is None else _of_its_group(about.st_mode)
    write_whole(path, data, mode=0o600 | group, owner=about)


def parse_change(text: str) -> tuple[str, object]:
    """Read ``--set path=value``; the value is YAML. Raises ``ConfigError``."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set takes key=value, not {text!r}")
    return path.strip(), parse_value(value, path)


def parse_value(text: str, path: str) -> object:
    """Read a value as YAML. Raises ``ConfigError``."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        raise ConfigError(
            "its value is not YAML; put text with special characters in quotes", path=path.strip()
        ) from error


def questions_of(
    model: type[BaseModel], given: Mapping[str, object], path: str
) -> Iterator[Question]:
    """What to ask for a module: its options that are required, or marked ``ask``."""
    for own_name, field in model.model_fields.items():
        name = field.alias or own_name
        if f"{name}_file" in given or not _wants_asking(field):
            continue
        inner = model_in(field.annotation)
        if inner is not None:
            many = inner is not field.annotation
            there = given.get(name, [{}] if many else {})
            first = there[0] if isinstance(there, list) and len(there) == 1 else there
            if isinstance(first, dict):
                yield from questions_of(inner, first, f"{path}.{name}" + "[0]" * many)
        elif name not in given:
            yield Question(
                path=f"{path}.{name}",
                words=field.description or "",
                kind=field.annotation,
                default=None if field.is_required() else field.get_default(),
                required=field.is_required(),
            )


def _wants_asking(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return field.is_required() or (isinstance(extra, dict) and bool(extra.get("ask")))


def _complete(document: dict[str, Any], ask: Ask | None) -> None:
    """Put in what the modules need and nobody has given."""
    modules = document.get("modules")
    for instance, options in list(modules.items()) if isinstance(modules, dict) else []:
        if not isinstance(options, dict) or not isinstance(options.get("module"), str):
            continue  # What is wrong with it is said when it is read.
        where = f"modules.{instance}"
        model = describe(find_module(options["module"], f"{where}.module"))[1]
        for question in list(questions_of(model, options, where)):
            if ask is not None:
                _put(document, question.path, ask(question))
            elif question.required:
                raise ConfigError(
                    f"is missing; --set '{question.path}=...' gives it", path=question.path
                )


def _put(document: dict[str, Any], path: str, value: object) -> None:
    *folders, name = path.split(".")
    place = document
    for folder in folders:
        place = _enter(place, folder, path)
    place[name] = value


def _enter(place: dict[str, Any], step: str, path: str) -> dict[str, Any]:
    """The section that a step of a path leads to, made if it is not there."""
    match = _STEP.fullmatch(step)
    if match is None:
        raise ConfigError(f"{step!r} is no key", path=path)
    name, number = match.groups()
    inner = place.setdefault(name, {} if number is None else [])
    if number is not None and isinstance(inner, list):
        if int(number) > len(inner):
            raise ConfigError(f"{name} has {len(inner)} entries so far", path=path)
        if int(number) == len(inner):
            inner.append({})
        inner = inner[int(number)]
    if not isinstance(inner, dict):
        raise ConfigError(f"{step} is a value, not a section", path=path)
    return inner
