"""What is public is listed, documented, and stands alone."""

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NewType

import pytest

from bridge import sdk
from bridge.sdk import rich, testing

PAGE = (Path(__file__).parents[2] / "docs/reference/sdk.md").read_text()
PARTS = (
    "capabilities",
    "errors",
    "events",
    "examination",
    "ids",
    "login",
    "metrics",
    "module",
    "secret",
    "timers",
)


def defined(module: ModuleType) -> Iterator[str]:
    """The public classes and types of ids that a module defines."""
    for name, value in vars(module).items():
        is_ours = getattr(value, "__module__", None) == module.__name__
        if not name.startswith("_") and is_ours and isinstance(value, type | NewType):
            yield name


@pytest.mark.parametrize("module", [sdk, testing])
def test_what_is_public_is_listed_once_in_order_and_there(module: ModuleType) -> None:
    names = module.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(module, name)] == []


def test_no_public_class_is_forgotten() -> None:
    parts = [importlib.import_module(f"bridge.sdk.{part}") for part in PARTS]
    forgotten = {name for part in parts for name in defined(part)} - set(sdk.__all__)
    assert forgotten == set()


@pytest.mark.parametrize("module", [sdk, testing])
def test_everything_public_says_what_it_is(module: ModuleType) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            # Without one of its own, a dataclass shows its fields and an enum its base's.
            text = value.__doc__ or ""
            assert text, name
            assert not text.startswith(f"{name}("), name


@pytest.mark.parametrize("module", [sdk, testing])
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    assert [name for name in module.__all__ if f"`{name}`" not in PAGE] == []


def test_the_reference_names_nothing_that_is_not_there() -> None:
    known = {*sdk.__all__, *testing.__all__, *defined(rich), "AssertionError"}
    mentioned = {name for name in re.findall(r"`(\w+)`", PAGE) if name[0].isupper()}
    assert mentioned - known == set()
    for name in re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE):
        assert name in known, name


def test_the_sdk_stands_alone() -> None:
    code = (
        "import sys, bridge.sdk, bridge.sdk.testing\n"
        "ours = [n for n in sys.modules if n.startswith('bridge.')]\n"
        "assert all(n.startswith('bridge.sdk') for n in ours), ours\n"
        "heavy = {'aiohttp', 'asyncpg', 'pytest', 'orjson', 'cryptography'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True
    )
    assert shown.returncode == 0, shown.stderr
