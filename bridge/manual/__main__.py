"""Writes the pages and files again: ``python -m bridge.manual``, in the repository's folder."""

from pathlib import Path

from bridge.manual.write import write_manual

write_manual(Path.cwd())
