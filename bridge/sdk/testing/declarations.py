"""What a module says of itself, held against the contract."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic.errors import PydanticUserError

from bridge.sdk.capabilities import Capabilities, Level
from bridge.sdk.commands import HOSTS_OWN, NetworkCommand, Where
from bridge.sdk.login import Ask, Field, Finished, LoginFlow, Show, Step, Wait
from bridge.sdk.module import CORE_KEYS, Kept, ModuleInfo
from bridge.sdk.secret import Secret
from bridge.sdk.testing.outcomes import demand, require
from bridge.sdk.testing.sources import trace
from bridge.sdk.testing.store import FakeStore

_ID = re.compile(r"[a-z][a-z0-9]{0,15}")
_CONTENT_URI = re.compile(r"mxc://[^/\s]+/[A-Za-z0-9_-]+")
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_COMMAND = re.compile(r"[a-z][a-z0-9-]{0,19}")
_SECRET_NAME = re.compile(r"(?:.*_)?(?:password|passphrase|secret|token|api_?key|private_key)")
_HIDDEN = (Secret, SecretStr, SecretBytes)


def check_declarations(module_class: Any, group: str) -> frozenset[str]:
    """Check info, settings and imports; give the files that the module is made of."""
    info = demand(
        getattr(module_class, "info", None),
        ModuleInfo,
        "`info` is missing: a ModuleInfo as an attribute of the class",
    )
    check_info(info)
    value = f"{module_class.__module__}:{module_class.__qualname__}"
    for entry in entry_points(group=group):
        require(
            entry.value != value or entry.name == info.id,
            f"it is installed as {entry.name!r}, but info.id is {info.id!r}; make them equal",
        )
    missing = (
        "`settings` is missing: a subclass of pydantic.BaseModel as an attribute of the class"
    )
    settings: type = demand(getattr(module_class, "settings", None), type, missing)
    if not issubclass(settings, BaseModel):
        require(False, missing)
        return frozenset()
    check_settings(settings)
    sources = trace(module_class)
    require(not sources.faults, "; ".join(sources.faults))
    return frozenset(sources.files)


def check_info(info: ModuleInfo) -> None:
    """Check that people are told what the module is, keeps, and how they get rid of it."""
    require(
        _ID.fullmatch(info.id),
        f"info.id {info.id!r}: a-z and 0-9, at most 16, a letter first",
    )
    require(info.name.strip(), "info.name is empty; say what people call it")
    for name, text in (("summary", info.summary), ("removal", info.removal)):
        is_sentence = text.strip().endswith((".", "!")) and "\n" not in text
        require(is_sentence, f"info.{name} must be a sentence on one line, with a full stop")
    require(
        not info.icon or _CONTENT_URI.fullmatch(info.icon),
        f"info.icon {info.icon!r} is no content URI (mxc://server/media), as clients need",
    )
    require(info.docs.strip(), "info.docs is empty; say where its documentation is")
    prefixes: list[str] = []
    for kept in info.keeps:
        require(isinstance(kept, Kept), f"info.keeps holds {kept!r}, which is no Kept")
        require(kept.prefix, "info.keeps: a prefix is empty; name the keys, for example `seen:`")
        require(kept.purpose.strip(), f"info.keeps: say what {kept.prefix!r} is kept for")
        require(
            kept.keep_for is None or kept.keep_for > timedelta(0),
            f"info.keeps: keep_for of {kept.prefix!r} must be longer than nothing",
        )
        for other in prefixes:
            require(
                not (kept.prefix.startswith(other) or other.startswith(kept.prefix)),
                f"info.keeps: {other!r} and {kept.prefix!r} hold the same keys",
            )
        prefixes.append(kept.prefix)


def check_settings(
    model: type[BaseModel], path: str = "settings", around: tuple[type[BaseModel], ...] = ()
) -> None:
    """Check that every setting is described and that no secret has a default."""
    require(
        model.model_config.get("extra") == "forbid",
        f"{path}: {model.__name__} takes keys that it does not know, so that a mistyped one is "
        'not found; set model_config = ConfigDict(extra="forbid")',
    )
    for name, field in model.model_fields.items():
        where = f"{path}.{name}"
        require(
            path != "settings" or name not in CORE_KEYS,
            f"{where}: the core reads that key itself; give it another name",
        )
        require(field.description, f"{where} has no description; give Field(description=...)")
        kinds = list(_kinds(field.annotation))
        hidden = any(issubclass(kind, _HIDDEN) for kind in kinds)
        require(
            hidden or not (_SECRET_NAME.fullmatch(name) and {str, bytes} & set(kinds)),
            f"{where} looks like a secret but would be printed; make it a pydantic.SecretStr",
        )
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        require(
            not hidden or default is None,
            f"{where} is a secret with a default, which everybody knows; require it, or let "
            "None be the default",
        )
        for kind in kinds:
            if issubclass(kind, BaseModel) and kind not in (*around, model):
                check_settings(kind, where, (*around, model))
    try:
        model.model_json_schema()
    except PydanticUserError as error:
        raise AssertionError(
            f"{path}: no JSON schema can be made of {model.__name__}: {error.message}"
        ) from error


def _kinds(hint: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if get_origin(hint) is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif isinstance(hint, type) and not get_args(hint):
        yield hint
    else:
        for part in get_args(hint):
            yield from _kinds(part)


def make_settings(
    module_class: Any, settings: BaseModel | Mapping[str, object]
) -> tuple[BaseModel, list[str]]:
    """Give the checked settings, and the secrets in them."""
    model: type[BaseModel] = module_class.settings
    if isinstance(settings, Mapping):
        try:
            settings = model.model_validate(settings)
        except ValidationError as error:
            raise AssertionError(f"the settings of this test are refused: {error}") from error
    require(
        isinstance(settings, model),
        f"the settings of this test are no {model.__name__} but {type(settings).__name__}",
    )
    return settings, list(_secrets(settings))


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode(errors="replace")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _secrets(one)
    elif isinstance(value, dict):
        yield from _secrets(list(value.values()))


def check_flows(flows: Any) -> None:
    """Check the ways to sign in: names that programs use, words that people read."""
    require(
        isinstance(flows, list | tuple) and all(isinstance(one, LoginFlow) for one in flows),
        "login_flows() must give a list or tuple of LoginFlow; () if nobody signs in",
    )
    ids = [flow.id for flow in flows]
    require(len(set(ids)) == len(ids), "login_flows(): two flows have the same id")
    for flow in flows:
        where = f"login_flows(): {flow.id!r}"
        require(_FIELD.fullmatch(flow.id), f"{where}: an id has a-z, 0-9 and _ only")
        require(flow.title.strip(), f"{where} has no title to choose it by")


def check_commands(commands: Any) -> None:
    """Check what a network takes beside messages: words that people type and read."""
    require(
        isinstance(commands, list | tuple)
        and all(isinstance(one, NetworkCommand) for one in commands),
        "commands must be a list or tuple of NetworkCommand",
    )
    names = [one.name for one in commands]
    require(len(set(names)) == len(names), "commands: two have the same name")
    for one in commands:
        where = f"commands: {one.name!r}"
        require(_COMMAND.fullmatch(one.name), f"{where}: a name has a-z, 0-9 and - only")
        require(one.name not in HOSTS_OWN, f"{where}: that name is the host's own")
        require(one.usage.split(" ")[0] == one.name, f"{where}: the usage begins with the name")
        require(one.help.strip() and "\n" not in one.help, f"{where} needs a line of help")
        require(
            one.where is Where.ROOM or not one.needs_power,
            f"{where}: power in a room says nothing about a person's own connection",
        )
        require(
            one.needs_power or not one.looks_alone,
            f"{where}: looks_alone says where no power is needed, and it needs none",
        )
        require(
            all(word == word.casefold() for word in one.words),
            f"{where}: words must be in small letters, as they are given to run()",
        )


def check_step(step: object, where: str) -> Step:
    """Check one step of a process: words that people read, names that programs use."""
    require(
        isinstance(step, Ask | Show | Wait),
        f"{where} must give an Ask, a Show or a Wait, not {type(step).__name__}",
    )
    assert isinstance(step, Ask | Show | Wait)  # noqa: S101 - for the type checker
    require(step.text.strip(), f"{where}: the step has no text to say what it is for")
    if isinstance(step, Show):
        require(step.link or step.code, f"{where} gave a Show with neither link nor code")
        require(
            not step.link or step.link.startswith(("https://", "http://")),
            f"{where} gave a Show whose link is not of the web",
        )
    if isinstance(step, Ask):
        _check_fields(step.fields, where)
    return step


def _check_fields(asked: Sequence[Field], where: str) -> None:
    require(asked, f"{where} gave an Ask without fields")
    names = [field.name for field in asked]
    require(len(set(names)) == len(names), f"{where}: two fields have the same name")
    for field in asked:
        here = f"{where}, field {field.name!r}"
        require(_FIELD.fullmatch(field.name), f"{here}: a name has a-z, 0-9 and _ only")
        require(field.label.strip(), f"{here} has no label to ask by")
        require(
            field.secret or not _SECRET_NAME.fullmatch(field.name),
            f"{here} looks like a secret; set secret=True, so that it is not shown",
        )


def check_finished(end: Finished, where: str) -> None:
    """Check how a process ended."""
    require(end.name.strip(), f"{where} finished without a name for the account")
    for name, value in end.secrets.items():
        require(
            _FIELD.fullmatch(name) and isinstance(value, Secret),
            f"{where} finished with secrets[{name!r}], which must be a Secret by a name of a-z, "
            "0-9 and _",
        )


def check_capabilities(found: object, chat: str) -> None:
    """Check that the core can work by what a connector says of a chat."""
    capabilities = demand(
        found, Capabilities, f"capabilities({chat!r}) must give Capabilities, not {found!r}"
    )
    for field in fields(capabilities):
        level = getattr(capabilities, field.name)
        require(
            not isinstance(field.default, Level) or isinstance(level, Level),
            f"capabilities: {field.name} must be a Level, not {level!r}",
        )
    for name, number in capabilities.limits.items():
        is_limit = isinstance(number, int) and number > 0
        require(is_limit, f"capabilities: the limit {name} must be a whole number above 0")


def check_kept(info: ModuleInfo, store: FakeStore) -> None:
    """Check that what was put into the store is what the module says it keeps."""
    for key, row in store.rows.items():
        kept = next((one for one in info.keeps if key.startswith(one.prefix)), None)
        if kept is None:
            raise AssertionError(
                f"it keeps {key!r}, of which info.keeps says nothing; people are told what is "
                "kept of them from there"
            )
        require(
            kept.keep_for is None or (row.keep_for is not None and row.keep_for <= kept.keep_for),
            f"it keeps {key!r} for {row.keep_for or 'ever'}, but info.keeps says "
            f"{kept.keep_for}; give put() a keep_for",
        )


def check_words(secrets: list[str], texts: list[str]) -> None:
    """Check that no secret stands in what was logged, reported or raised."""
    for text in texts:
        shown = text
        for secret in secrets:
            # A short one, made up for a test, may stand in a text by chance.
            shown = shown.replace(secret, "…") if len(secret) >= 6 else shown
        require(shown == text, f"a secret stands in what it logs or says: {shown!r}")
