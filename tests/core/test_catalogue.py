"""A module that is installed is a stranger before it is loaded, and as it is."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bridge.core.host.catalogue import NETWORKS, Installed, find_module
from bridge.sdk.errors import ConfigError
from tests.rigs.entrypoints import write_distribution


@pytest.mark.parametrize("code", ["import nothing_of_that_name", "1 / 0", "this is no code"])
def test_a_module_that_fails_as_it_is_loaded_is_named_with_the_reason(
    tmp_path: Path, code: str
) -> None:
    (tmp_path / "odd_bridge.py").write_text(code)
    entry = EntryPoint("odd", "odd_bridge:Odd", NETWORKS)
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfigError, match="the module odd is installed but cannot be loaded:"):
            Installed(name="odd", group=NETWORKS, entry=entry).load()
    finally:
        sys.path.remove(str(tmp_path))


def test_a_module_that_was_installed_since_we_looked_is_found(tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfigError, match="there is no module called 'late'"):
            find_module("late", "modules.late.module")
        write_distribution(tmp_path, "late", "[trestle.bots]\nlate = late:Bot\n")
        assert find_module("late", "modules.late.module").is_bot
    finally:
        sys.path.remove(str(tmp_path))
