"""``docs/reference/modules.md``: each module's settings, made from the module's own model."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from bridge.core.host.catalogue import Installed, describe, installed
from bridge.options import model_in
from bridge.shapes import shown, takes

_HEAD = """\
# The settings of modules

Made from the code (`python -m bridge.examples`). They stand under the instance's name, beside
`module:`; what every instance may have beside them is [in the settings](config.md#modules).
`trestle modules NAME` shows the same of each module that is installed, strangers' too.

```yaml
modules:
  libera:
    module: irc
    servers:
      - host: irc.example.org
```

A secret may stand in the file, in one of its own (`<key>_file`) or, those at the top, in the
environment: [secrets](config.md#secrets). `servers[].host` is the key `host` of each of
`servers`, `webirc.gateway` the key `gateway` inside `webirc`.
"""


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


def modules_page() -> str:
    """The text of ``docs/reference/modules.md``: of the modules that come with the program."""
    lines = [_HEAD]
    for name, module in sorted(installed().items()):
        if module.entry.value.startswith("bridge."):
            lines += _section(name, module)
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, module: Installed) -> Iterator[str]:
    info, model = describe(module)
    more = f" [The {name} module]({info.docs.rpartition('/')[2]})." if info.docs else ""
    yield f"## {name}\n\n{info.summary}{more}\n"
    yield "| key | takes | default | |"
    yield "|---|---|---|---|"
    for one in options_of(model):
        cells = (f"`{one.key}`", one.takes, one.without, one.help)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


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
