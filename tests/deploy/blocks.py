"""The commands in the documents, and how each of them is run.

A comment stands before each block: ``<!-- run: life -->`` for one. The kinds are in
``test_documents.py``; a block without one fails there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.tools import TOP

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>sh|bash|shell|console|cron)\n", re.MULTILINE)
_BARE = re.compile(r"^ *```\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_TIMES = re.compile(r"^(?:[\d*/,-]+ +){5}\S+ +")
"""When, and as whom, cron runs what follows."""
_MARK = re.compile(r"<!-- run: ([^>]+?)(?:, ends with (\d+))? -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A block of commands in a document."""

    page: Path
    line: int
    kind: str
    """What the comment before it says; empty if there is none."""
    code: int
    """What its last command ends with."""
    text: str
    language: str = "sh"

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page.relative_to(TOP)}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Its commands without what is said beside them."""
        text = re.sub(r" *\\\n *", " ", self.text)
        said = (re.sub(r"\s{2,}#.*", "", line) for line in text.splitlines())
        lines = [line.strip() for line in said if line.strip() and not line.startswith("#")]
        return [_TIMES.sub("", line) for line in lines]


def blocks_of(page: Path) -> Sequence[Block]:
    """Every block of commands in a document, in its order."""
    text, found = page.read_text(), []
    for fence in _FENCE.finditer(text):
        end = text.index(f"\n{fence['indent']}```", fence.end() - 1)
        mark = _MARK.search(text[: fence.start()])
        inner = text[fence.end() : end]
        commands = "\n".join(line.removeprefix(fence["indent"]) for line in inner.splitlines())
        number = text.count("\n", 0, fence.start()) + 1
        kind, code = (mark[1], int(mark[2] or 0)) if mark else ("", 0)
        found.append(Block(page, number, kind, code, commands, fence["language"]))
    return found


def bare_blocks(page: Path) -> Sequence[str]:
    """What stands in a document in fences that do not say what it is."""
    text = re.sub(r"^ *```\w+\n.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return _BARE.findall(text)
