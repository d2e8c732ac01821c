"""``docs/reference/modules.md``: each module's settings, made from the module's own model."""

from collections.abc import Iterator

from bridge.core.host.catalogue import Installed, describe, installed
from bridge.settings.optionwords import options_of

_HEAD = """\
# The settings of modules

Made from the code (`python -m bridge.manual`). They stand under the instance's name, beside
`module:`; what every instance may have besides is [in the settings](config.md#modules).
`trestle modules NAME` shows the same for every module that is installed, other people's too.

```yaml
modules:
  libera:
    module: irc
    servers:
      - host: irc.example.org
```

A secret may stand in the file, in a file of its own (`<key>_file`) or, if it is not inside
another key, in the environment: [secrets](config.md#secrets). `servers[].host` is the key `host`
of each of `servers`, `webirc.gateway` the key `gateway` inside `webirc`.
"""


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
