"""A module's options one by one, in words: for tables and the command line."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from bridge.settings.options import model_in
from bridge.settings.shapes import shown, takes


class Option(NamedTuple):
    """One setting of a module."""

    key: str
    takes: str
    required: bool
    default: object
    """What holds without it; None if it is required."""
    help: str

    @property
    def without(self) -> str:
        """What holds without it, in words."""
        if self.required:
            return "must be given"
        return "those of its keys" if isinstance(self.default, BaseModel) else shown(self.default)


def options_of(model: type[BaseModel]) -> Iterator[Option]:
    """Give each setting of a model, those inside another behind it."""
    yield from _options(model, "", (model,))


def _options(
    model: type[BaseModel], inside: str, around: tuple[type[BaseModel], ...]
) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        key, inner = f"{inside}{field.alias or name}", model_in(field.annotation)
        shape = takes(field.annotation)
        if inner is None:
            shape, deeper = shape + _bounds(field.metadata), ""
        elif shape.startswith("a list"):
            shape, deeper = "a list, each with the keys below", f"{key}[]."
        elif shape.startswith("keys and values"):
            shape, deeper = "keys and values, each with the keys below", f"{key}.*."
        else:
            shape, deeper = "the keys below", f"{key}."
        if inner is not None and type(None) in get_args(field.annotation):
            shape += " or `null`"
        required = field.is_required()
        default = None if required else field.get_default(call_default_factory=True)
        yield Option(key, shape, required, default, field.description or "")
        if inner is not None and inner not in around:  # A model may hold others of its kind.
            yield from _options(inner, deeper, (*around, inner))


def _bounds(metadata: Sequence[Any]) -> str:
    """What is said of numbers and lengths, behind what is taken."""

    def bound(name: str) -> object:
        return next((getattr(one, name) for one in metadata if hasattr(one, name)), None)

    least, above, most = bound("ge"), bound("gt"), bound("le")
    longest = bound("max_length")
    if least is not None and most is not None:
        return f", {least} to {most}"
    parts = [
        *([f"{least} or more"] if least is not None else []),
        *([f"above {above}"] if above is not None else []),
        *([f"at most {most}"] if most is not None else []),
        *([f"at most {longest} characters"] if longest is not None else []),
    ]
    return "".join(f", {part}" for part in parts)
