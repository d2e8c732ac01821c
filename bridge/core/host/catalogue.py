"""The modules that are installed: ours and strangers' alike, found by entry points."""

import difflib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from bridge.sdk.errors import ConfigError
from bridge.sdk.module import ModuleInfo

NETWORKS = "trestle.networks"
BOTS = "trestle.bots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A module that may be named in the config."""

    name: str
    group: str
    entry: EntryPoint

    @property
    def is_bot(self) -> bool:
        """Whether it is a bot, not a network."""
        return self.group == BOTS

    def load(self) -> Any:
        """Import the connector's or bot's class. Raises ``ConfigError`` if it cannot be."""
        try:
            return self.entry.load()
        except Exception as error:  # A module is a stranger.
            raise ConfigError(
                f"the module {self.name} is installed but cannot be loaded: {error}"
            ) from error


def installed() -> Mapping[str, Installed]:
    """Give every installed module by its name."""
    return _found(tuple(sys.path))


@lru_cache(maxsize=2)
def _found(places: tuple[str, ...]) -> Mapping[str, Installed]:
    # It reads a file of each package that is installed, which takes a tenth of a second.
    return {
        entry.name: Installed(name=entry.name, group=group, entry=entry)
        for group in (BOTS, NETWORKS)
        for entry in entry_points(group=group)
    }


def find_module(name: str, path: str) -> Installed:
    """Give the module of that name. Raises ``ConfigError`` with those there are."""
    modules = installed()
    if name not in modules:  # It may have been installed since we looked.
        importlib.invalidate_caches()
        _found.cache_clear()
        modules = installed()
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=1)
    hint = f"did you mean {near[0]}?" if near else "installed: " + ", ".join(sorted(modules))
    raise ConfigError(f"there is no module called {name!r}; {hint}", path=path)


def describe(module: Installed) -> tuple[ModuleInfo, type[BaseModel]]:
    """Give what the module says of itself and its settings."""
    loaded = module.load()
    return loaded.info, loaded.settings
