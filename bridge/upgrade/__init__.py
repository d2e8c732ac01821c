"""``trestle config upgrade``: a newer version's keys and words come into the admin's own file.

A three-way merge on lines: the example as it was shipped with the file's version, the example of
this version, and the admin's file, of which nothing is touched that the admin wrote.
"""

from bridge.upgrade.example import Entry, read_example
from bridge.upgrade.merge import Merged, merge
from bridge.upgrade.moves import MOVES, Move
from bridge.upgrade.versions import base_of, named_version, refuse_newer, shipped

__all__ = [
    "MOVES",
    "Entry",
    "Merged",
    "Move",
    "base_of",
    "merge",
    "named_version",
    "read_example",
    "refuse_newer",
    "shipped",
]
