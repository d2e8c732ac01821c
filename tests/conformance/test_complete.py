"""The list is complete: each line that we hold has a test with its number in the name."""

import ast
import re
from pathlib import Path

HELD = {
    *range(1, 13), 14, *range(20, 47), *range(50, 59), *range(60, 65), *range(70, 77),
    *range(80, 86), *range(90, 98), *range(100, 107),
}  # fmt: skip
"""The numbers of the lines. There are none between the tables; 13 is about two registrations in
one process, which Trestle does not have."""


def test_every_line_of_the_list_has_its_test_and_no_test_names_another() -> None:
    assert numbers_in_names() == HELD


def numbers_in_names() -> set[int]:
    """The numbers in the names of this folder's tests: ``test_line_07_08_...``."""
    found: set[int] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = re.match(r"test_line((?:_\d+)+)_", node.name)
                if match:
                    found.update(int(number) for number in match[1].split("_")[1:])
    return found
