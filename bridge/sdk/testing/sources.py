"""The files that a module is made of, and what they import."""

import ast
import gc
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Sources:
    """What a module's class pulls in of its own, and imports that a module may not have."""

    files: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def trace(module_class: type) -> Sources:
    """Follow the imports of the class's file as far as they are the module's own."""
    first = module_class.__module__
    parts = first.split(".")
    # Ours are in bridge.networks.<name> and bridge.bots.<name>; a stranger has a package.
    own = ".".join(parts[:3]) if parts[0] == "bridge" else parts[0]
    sources = Sources()
    seen: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if name in seen or file is None:
            continue
        seen.add(name)
        sources.files.add(str(file))
        for number, imported in _imports(_parse(file), _package_of(name, file)):
            if imported == own or imported.startswith(f"{own}."):
                waiting.append(imported)
            elif fault := _fault(imported):
                sources.faults.append(f"{file.name}, line {number}: {fault}")
    return sources


def _parse(file: Path) -> ast.Module:
    # Python before 3.11.8 fails if a finalizer runs in between (gh-106905).
    was_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(file.read_bytes(), str(file))
    finally:
        if was_on:
            gc.enable()


def _fault(imported: str) -> str | None:
    if imported.startswith("bridge.sdk.testing"):
        return "bridge.sdk.testing is for tests; a module does not import it"
    inside = imported == "bridge" or imported.startswith("bridge.")
    if inside and not (imported == "bridge.sdk" or imported.startswith("bridge.sdk.")):
        return f"it imports {imported}; a module knows only bridge.sdk"
    return None


def _file_of(name: str) -> Path | None:
    loaded = sys.modules.get(name)
    origin = getattr(loaded, "__file__", None)
    if loaded is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None  # A name inside of a module, not a module.
        origin = None if spec is None else spec.origin
    return Path(origin) if origin and origin.endswith(".py") else None


def _package_of(name: str, file: Path) -> str:
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Each imported name with its line: ``from a import b`` gives ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*start, node.module or ""]).strip(".")
            source = module if node.level else node.module or ""
            for alias in node.names:
                # `from bridge import sdk` is bridge.sdk and no import of the whole.
                if source != "bridge":
                    yield node.lineno, source
                yield node.lineno, f"{source}.{alias.name}"
