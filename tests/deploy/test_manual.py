"""What is made from the code is in step with it, complete, and read by those it is for."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import click
import pytest

from bridge.cli import main
from bridge.manual.board import board, expressions
from bridge.manual.commands import entries, manual_page
from bridge.manual.events import lines_in, log_lines
from bridge.manual.metrics import core_metrics, module_metrics
from bridge.manual.write import made, write_manual
from tests.admin.commands import commands, trestle
from tests.deploy.conftest import Fresh
from tests.deploy.tools import DEPLOY, TOP, run
from tests.rigs.yaml import dump

METRICS = {metric.name: metric for metric in (*core_metrics(), *module_metrics())}

pages = cache(made)
"""Made once: for the events all of the code is read."""


def test_the_committed_files_are_what_the_program_makes(folder: Path) -> None:
    write_manual(folder)
    for name in pages():
        assert (folder / name).read_text() == (TOP / name).read_text(), (
            f"{name} is old: `make examples` writes it again"
        )


def test_every_metric_has_its_line_in_the_reference() -> None:
    text = pages()["docs/reference/metrics.md"]
    for name, metric in METRICS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        assert metric.help in row
        for label, values in metric.labels.items():
            assert f"`{label}`: " in row
            assert all(value in row for value in values)


def test_every_metric_has_a_panel_and_every_query_is_promql(folder: Path) -> None:
    shown = " ".join(expressions())
    assert [name for name in METRICS if not re.search(rf"\b{name}(_bucket)?\b", shown)] == []
    used = {re.sub("_bucket$", "", name) for name in re.findall(r"\btrestle_\w+", shown)}
    assert used - METRICS.keys() == set()
    rules = [
        {"record": f"query:number{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(expressions())
    ]
    file = folder / "board.yml"
    file.write_text(dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", file)


def test_the_board_is_whole() -> None:
    assert json.loads((DEPLOY / "grafana/trestle.json").read_text()) == board()
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_command_and_flag_is_in_both_references() -> None:
    page, manual = pages()["docs/reference/cli.md"], pages()["deploy/man/trestle.1"]
    flat = " ".join(manual.replace("\\-", "-").split())
    found = {entry.name: entry for entry in entries(main)}
    assert found.keys() == {" ".join(("trestle", *path)) for path in commands()}
    for name, entry in found.items():
        assert f"## {name}\n" in page
        assert name in flat
        for option in entry.options:
            assert f"`{option.flags}`" in page
            assert option.flags in flat


def test_the_manual_page_is_clean_roff_and_can_be_read() -> None:
    page = DEPLOY / "man/trestle.1"
    assert run("mandoc", "-T", "lint", "-W", "warning", page) == ""
    shown = run("mandoc", "-T", "utf8", page)
    text = re.sub(".\b", "", shown)  # Bold is a letter over itself.
    for words in ("NAME", "trestle parked retry", "EXIT STATUS", "--homeserver-url"):
        assert words in text
    assert run("man", "--warnings", "-l", page)


@pytest.mark.timeout(900)
def test_the_installed_program_brings_its_manual_page(fresh: Fresh) -> None:
    page = fresh.folder / ".venv/share/man/man1/trestle.1"
    assert page.read_text() == (DEPLOY / "man/trestle.1").read_text()


def test_odd_words_of_a_command_do_not_break_the_page(folder: Path) -> None:
    @click.command(help="Odd: .starts with a dot \\ and 'quotes'.")
    @click.option("--one", help=".TH is a request. " + "'long words' " * 20)
    def odd(one: str) -> None:
        """Do nothing."""

    page = folder / "odd.1"
    page.write_text(manual_page(odd, "1"))
    assert run("mandoc", "-T", "lint", "-W", "warning", page) == ""
    text = re.sub(".\b", "", run("mandoc", "-T", "utf8", page))
    assert ".TH is a request." in text
    assert "\\ and 'quotes'" in text


def test_every_line_of_the_log_has_a_stable_name() -> None:
    lines = log_lines()  # Raises for a line without.
    assert len(lines) > 50
    odd = [one for one in lines if not re.fullmatch(r"[a-z][a-z0-9_]{2,39}", one.event)]
    assert odd == []
    page = pages()["docs/reference/log-events.md"]
    assert [one.event for one in lines if f"| `{one.event}` | {one.level} |" not in page] == []


@pytest.mark.parametrize(
    "code",
    [
        'log.info("x")',
        'self._host.log.warning("x", extra={"count": 3})',
        'self.log.error("x", extra={"event": name})',
        'logging.info("x")',
    ],
)
def test_a_line_without_a_stable_name_is_found(code: str) -> None:
    with pytest.raises(ValueError, match=r"^bridge/x.py:1 logs without extra="):
        list(lines_in(code, "bridge/x.py"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_is_a_script_of_its_shell(shell: str, folder: Path) -> None:
    script = trestle("completion", shell)
    assert script.code == 0
    file = folder / "script"
    file.write_text(script.output)
    run(shell, "-n", file)


@pytest.mark.timeout(900)
def test_the_tab_key_completes_commands_and_flags(fresh: Fresh) -> None:
    lines = """
        source <(trestle completion bash)
        complete -p trestle
        COMP_WORDS=(trestle parked re) COMP_CWORD=2
        _trestle_completion trestle re parked
        echo "found: ${COMPREPLY[*]}"
    """
    done = subprocess.run(
        ["bash", "-c", lines], check=False, capture_output=True, text=True, timeout=60,
        env={"PATH": f"{fresh.folder}/.venv/bin:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "found: retry" in done.stdout
