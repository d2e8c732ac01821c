"""The copy that somebody has of what is kept about them."""

import json
import zipfile
from pathlib import Path
from typing import IO, Any


def rows_in(file: Path | IO[bytes]) -> dict[str, list[dict[str, Any]]]:
    """The rows of a copy, by table, of those that have any."""
    with zipfile.ZipFile(file) as archive:
        tables = json.loads(archive.read("manifest.json"))["tables"]
        rows = {one["table"]: archive.read(one["file"]).splitlines() for one in tables}
    return {table: [json.loads(line) for line in lines] for table, lines in rows.items() if lines}
