"""The house keeps its own rules: budgets, words, documents, dependencies, the container."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import bridge
from bridge.manual.examples import config_example, registration_example
from tests.admin.commands import trestle
from tests.rigs import order

TOP = Path(__file__).parent.parent
PYTHON = sorted([*TOP.glob("bridge/**/*.py"), *TOP.glob("tests/**/*.py")])
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]

LONG = {
    "bridge/running/assembly.py:build": "a straight list of every object there is",
    "bridge/telemetry.py:__init__": "a straight list of every metric there is",
}
"""Functions that may be longer than 60 lines, and why."""

# Written in pieces, so that this file does not find itself.
UNFINISHED = re.compile("TO" + "DO|FIX" + "ME|X" + "XX:|for " + "now,|not implemented" + " yet")
ELSEWHERE = re.compile(
    r"(?<![\w.])/(?:work|root|farm|home/\w+)" + r"/|/tmp/(?:lab|plan|house)|"
    r"https?://(?:[\w.]*\.)?pypi\.org" + "|files\\.python" + "hosted"
)
VAGUE = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}


def name_of(file: Path) -> str:
    return str(file.relative_to(TOP))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), name_of(file))


def tracked() -> Iterator[Path]:
    """The repository's own text files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=False
    ).stdout.decode()
    names = listed.split("\0") if listed else [name_of(file) for file in PYTHON]
    for name in filter(None, names):
        file = TOP / name
        if file.is_file() and b"\0" not in file.read_bytes()[:8000]:
            yield file


def test_what_runs_first_is_there() -> None:
    assert order.files_that_are_not_there() == []


def test_no_file_is_longer_than_500_lines() -> None:
    long = {name_of(f): len(f.read_text().splitlines()) for f in PYTHON}
    assert {name: n for name, n in long.items() if n > 500} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{name_of(file)}:{node.name}"
        for file in PYTHON
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= 60
    }
    assert long == set(LONG)


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{name_of(file)}:{number}: {line.strip()}"
        for file in tracked()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_no_path_of_somebodys_machine_is_written_down() -> None:
    found = [
        f"{name_of(file)}:{number}: {line.strip()}"
        for file in tracked()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if ELSEWHERE.search(line)
    ]
    assert found == []


def test_names_of_files_say_what_is_in_them() -> None:
    assert [name_of(file) for file in PYTHON if file.stem in VAGUE] == []


def test_annotations_are_not_hidden_from_the_running_program() -> None:
    hidden = [f for f in PYTHON if "from __future__ import " + "annotations" in f.read_text()]
    assert hidden == []


def test_no_test_skips_itself_or_mocks_what_is_ours() -> None:
    banned = {"skip", "skipif", "xfail", "importorskip", "monkeypatch", "mocker"}
    found = []
    for file in TOP.glob("tests/**/*.py"):
        for node in ast.walk(tree_of(file)):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "arg", None)
            if name in banned:
                found.append(f"{name_of(file)}:{getattr(node, 'lineno', 0)}: {name}")
        if "unittest" in imported(tree_of(file)):
            found.append(f"{name_of(file)}: unittest")
    assert found == []


def test_every_module_says_what_it_is() -> None:
    # An empty file that only marks a package has nothing to say.
    silent = [f for f in PYTHON if f.read_text().strip() and not ast.get_docstring(tree_of(f))]
    assert [name_of(file) for file in silent] == []


def test_every_import_is_a_declared_dependency() -> None:
    wheels = packages_distributions()
    declared = {normal(text) for text in PROJECT["dependencies"]} | {normal("matrix-trestle")}
    missing = {}
    for file in TOP.glob("bridge/**/*.py"):
        for module in imported(tree_of(file)) - sys.stdlib_module_names - {"bridge"}:
            if not {normal(wheel) for wheel in wheels.get(module, [module])} & declared:
                missing[module] = name_of(file)
    assert missing == {}


def imported(tree: ast.Module) -> set[str]:
    """The top-level packages that a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def normal(requirement: str) -> str:
    """A distribution's name as package indexes compare it."""
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_has_its_reason() -> None:
    text = (TOP / "docs/adr/0001-dependencies.md").read_text()
    explained = {normal(name) for name in re.findall(r"\*\*([\w.-]+)\*\*", text)}
    extras = PROJECT["optional-dependencies"].values()
    wanted = {normal(one) for group in [PROJECT["dependencies"], *extras] for one in group}
    assert wanted == explained


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md", "docs/**/*.md"])
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    broken = [
        f"{name_of(page)}: {target}"
        for page in TOP.glob(document)
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in found}


def test_every_link_to_a_heading_leads_to_one() -> None:
    broken = [
        f"{name_of(page)}: {target}#{heading}"
        for page in [TOP / "README.md", *TOP.glob("docs/**/*.md")]
        for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())
        if heading not in headings((page.parent / target) if target else page)
    ]
    assert broken == []


def test_every_command_in_the_readme_is_there() -> None:
    text = (TOP / "README.md").read_text()
    makefile = (TOP / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"\bmake (\w+)", text)) <= targets
    for command in set(re.findall(r"`trestle (\w+)", text)):
        assert trestle(command, "--help").code == 0, command


def test_the_readme_is_one_screen() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 66


def test_ci_runs_the_readmes_test_command() -> None:
    lines = (TOP / ".ci/run").read_text().splitlines()
    assert lines[-1] == "make test"


def test_the_first_entry_of_the_changes_is_this_version_or_the_next() -> None:
    headings = re.findall(r"^## (.+)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(bridge.__version__)


def test_the_examples_are_what_the_code_says() -> None:
    assert (TOP / "config.example.yaml").read_text() == config_example()
    assert (TOP / "registration.yaml.example").read_text() == registration_example()


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    shown = subprocess.run(
        [str(linter), "--no-cache"], cwd=TOP, capture_output=True, check=False, text=True
    )
    assert shown.returncode == 0, shown.stdout


@pytest.mark.parametrize("folder", ["bridge/core", "bridge/networks/irc"])
def test_a_stranger_reads_what_lives_in_each_package(folder: str) -> None:
    page = (TOP / "docs/explain/the-house.md").read_text()
    missing = [
        name_of(file)
        for file in sorted((TOP / folder).glob("*/__init__.py"))
        if f"| `{file.parent.name}` | {ast.get_docstring(tree_of(file))} |" not in page
    ]
    assert missing == []


def test_a_module_knows_only_itself_and_the_sdk() -> None:
    found = {}
    for file in [*TOP.glob("bridge/networks/**/*.py"), *TOP.glob("bridge/bots/**/*.py")]:
        place = file.relative_to(TOP).with_suffix("").parts
        may = ("bridge.sdk.", ".".join(place[:3]) + ".")
        strange = [
            name
            for name in imported_from(tree_of(file), place)
            if name.partition(".")[0] == "bridge" and not f"{name}.".startswith(may)
        ]
        if strange:
            found[name_of(file)] = strange
    assert found == {}


def imported_from(tree: ast.Module, place: Sequence[str]) -> Iterator[str]:
    """Full names of what a file imports; of relative imports by where the file is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = place[: -node.level] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else ())])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def test_no_file_of_the_tests_imports_a_test_module() -> None:
    # What they share stands in modules and fixtures whose names say what it is.
    tests = {
        file.relative_to(TOP).with_suffix("").parts for file in TOP.glob("tests/**/test_*.py")
    }
    found = {}
    for file in TOP.glob("tests/**/*.py"):
        place = file.relative_to(TOP).with_suffix("").parts
        names = [tuple(name.split(".")) for name in imported_from(tree_of(file), place)]
        leaning = [".".join(name) for name in names if {name, name[:-1]} & tests]
        if leaning:
            found[name_of(file)] = leaning
    assert found == {}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: (name, the rest on one line)."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_container_runs_without_rights_and_without_build_tools() -> None:
    told = instructions((TOP / "Dockerfile").read_text())
    images = [rest for name, rest in told if name == "FROM"]
    assert len(images) == 2
    for image in images:
        assert re.match(r"python:3\.\d+\.\d+-slim-\w+( AS build)?$", image), image
    last = told[max(at for at, (name, _) in enumerate(told) if name == "FROM") + 1 :]
    of = {name: rest for name, rest in last if name != "RUN"}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of["USER"])
    run = " ".join(rest for name, rest in last if name == "RUN")
    assert "pip install" not in run
    assert "apt-get" not in run
    assert "pip uninstall --yes pip" in run
    assert '"trestle status -c /etc/trestle/config.yaml > /dev/null"' in of["HEALTHCHECK"]
    assert of["ENTRYPOINT"] == '["trestle"]'


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    shown = subprocess.run(
        [str(linter), str(TOP / "Dockerfile")], capture_output=True, check=False, text=True
    )
    assert shown.returncode == 0, shown.stdout
