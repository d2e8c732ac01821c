"""A module's options: checked by its own model, its secrets also from files and variables."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from bridge.sdk.errors import ConfigError
from bridge.sdk.secret import Secret
from bridge.settings.confidential import exposure, read_secret
from bridge.settings.records import ModuleSettings
from bridge.settings.values import join, refuse_placeholder, unknown_key

_Model = TypeVar("_Model", bound=BaseModel)

SECRETS = (Secret, SecretStr, SecretBytes)
"""The types of options that are shown nowhere."""


def check_module(model: type[_Model], module: ModuleSettings) -> _Model:
    """Check an instance's options and give its settings. Raises ``ConfigError`` with the path.

    A secret option may stand in a file (``<option>_file``, at any depth) or, at the top, in the
    environment (``TRESTLE_MODULES_<INSTANCE>_<OPTION>``), which beats the file of settings.
    """
    path = f"modules.{module.instance}"
    options = dict(module.options)
    secret = {name.upper(): name for name, field in _fields(model) if is_secret(field)}
    for name, text in module.environment.items():
        option = secret.get(name)
        if option is None:
            known = ", ".join(sorted(secret.values())) or "none"
            raise ConfigError(
                f"{variable_of(module.instance, name)} is set, but there is no secret option of "
                f"that name; secret options: {known}",
                path=path,
            )
        options.pop(f"{option}_file", None)
        options[option] = text.reveal()
    if module.exposed is not None:
        for where, _ in _secrets_inside(model, module.options, path):
            raise ConfigError(exposure(module.exposed, "passwords"), path=where)
    return check_options(model, options, path)


def check_options(model: type[_Model], options: Mapping[str, object], path: str) -> _Model:
    """Check a module's options against its own model. Raises ``ConfigError`` with the path.

    For secrets, ``<option>_file`` names a file that holds the option's text.
    """
    given = _with_files(model, options, path)
    for where, value in _secrets_inside(model, given, path):
        refuse_placeholder(value, where)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _translate(error, model, path) from error


def variable_of(instance: str, option: str) -> str:
    """The environment variable of a module's secret option."""
    return f"TRESTLE_MODULES_{instance}_{option}".upper()


def is_secret(field: FieldInfo) -> bool:
    """Whether the option is text that is shown nowhere."""
    return _mentions(field.annotation)


def secrets_in(value: object) -> Iterator[Secret]:
    """Every secret in a module's settings, at any depth."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, SecretStr):
        yield Secret(value.get_secret_value())
    elif isinstance(value, SecretBytes):
        yield Secret(value.get_secret_value().decode(errors="replace"))
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secrets_in(inner)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an option is or holds, in a list say; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = model_in(inner)
        if found is not None:
            return found
    return None


def _mentions(annotation: Any) -> bool:
    """Whether a secret is what an annotation says, or part of that."""
    return annotation in SECRETS or any(map(_mentions, get_args(annotation)))


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _with_files(
    model: type[BaseModel], options: Mapping[str, object], path: str
) -> dict[str, object]:
    """The options with the texts of their ``*_file``s put in."""
    fields = dict(_fields(model))
    given: dict[str, object] = {}
    for name, value in options.items():
        base = name.removesuffix("_file")
        if base != name and name not in fields and base in fields:
            where = f"{path}.{name}"
            if base in options:
                raise ConfigError(f"give either {base} or {name}, not both", path=where)
            if not isinstance(value, str):
                raise ConfigError("must be the path of a file", path=where)
            given[base] = read_secret(Path(value), where)
            continue
        inner = model_in(fields[name].annotation) if name in fields else None
        given[name] = value if inner is None else _inside(inner, value, f"{path}.{name}")
    return given


def _inside(model: type[BaseModel], value: object, path: str) -> object:
    if isinstance(value, dict):
        return _with_files(model, value, path)
    if isinstance(value, list):
        return [_inside(model, one, f"{path}[{number}]") for number, one in enumerate(value)]
    return value


def _secrets_inside(
    model: type[BaseModel], value: object, path: str
) -> Iterator[tuple[str, object]]:
    """The secrets that stand in the options themselves, with their paths."""
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _secrets_inside(model, one, f"{path}[{number}]")
    if not isinstance(value, Mapping):
        return
    for name, field in _fields(model):
        if value.get(name) is None:
            continue
        inner = model_in(field.annotation)
        if is_secret(field):
            yield join(path, name), value[name]
        elif inner is not None:
            yield from _secrets_inside(inner, value[name], join(path, name))


_LIST, _KEYS, _WHOLE = "must be a list", "must be keys and values", "must be a whole number"
_TAKES = {
    "missing": "is missing",
    "list_type": _LIST, "tuple_type": _LIST, "set_type": _LIST,
    "model_type": _KEYS, "model_attributes_type": _KEYS, "dict_type": _KEYS,
    "string_type": "must be text; put it in quotes",
    "string_too_short": "is too short: at least {min_length}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "is too short: at least {min_length}",
    "bool_parsing": "must be true or false", "bool_type": "must be true or false",
    "int_parsing": _WHOLE, "int_type": _WHOLE, "int_from_float": _WHOLE,
    "float_parsing": "must be a number", "float_type": "must be a number",
    # Nor does it take an address that goes on behind the prefix.
    "ip_v6_network": "must be an IPv6 network: 2001:db8:1:2::/64",
}  # fmt: skip
"""What is wrong, by what pydantic calls it."""


def _translate(error: ValidationError, model: type[BaseModel], path: str) -> ConfigError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = path
    for step in first["loc"]:
        where = f"{where}[{step}]" if isinstance(step, int) else join(where, step)
    match first["type"]:
        case kind if kind in _TAKES:
            reason = _TAKES[kind].format(**first.get("ctx", {}))
        case "extra_forbidden" if len(first["loc"]) == 1:
            reason = unknown_key(str(first["loc"][0]), option_names(model))
        case "extra_forbidden":
            reason = "there is no such key"
        case "is_instance_of" if first["ctx"]["class"] == Secret.__name__:
            reason = "must be text; put it in quotes"
        case "string_pattern_mismatch":
            reason = f"does not have the form that it must have: {first['ctx']['pattern']}"
        case "value_error" | "assertion_error":
            reason = str(first["ctx"]["error"])
        case _:
            message = first["msg"].removeprefix("Input should ")
            reason = f"must {message}" if message != first["msg"] else message
    return ConfigError(reason, path=where)


def option_names(model: type[BaseModel]) -> Iterator[str]:
    """The names of a model's options, as the config spells them."""
    for name, field in model.model_fields.items():
        yield field.alias or name
