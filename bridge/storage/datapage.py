"""The page of the data map, ``docs/reference/data-map.md``."""

from collections.abc import Iterator

from bridge.storage.datamap import DATA_MAP, RECEIVED_DAYS
from bridge.storage.labels import After, ByDay, Keep, While
from bridge.storage.statefiles import FILES


def data_map_page() -> str:
    """The text of ``docs/reference/data-map.md``."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# What Trestle keeps"
    yield ""
    yield "Made from `bridge/storage/datamap.py`, from which also the database forgets:"
    yield "by whole days, just after midnight UTC, and by the hour what has a time of its own."
    yield "*Sealed* is encrypted before it reaches the database; the key of a day is destroyed"
    yield f"after {RECEIVED_DAYS} days, and with it what every copy and backup holds of that day."
    for table in DATA_MAP:
        whose = f"Whose: the person in `{table.subject}`." if table.subject else "Whose: nobody's."
        yield ""
        yield f"## {table.name}"
        yield ""
        yield f"{_sentence(table.why)} Kept: {_kept(table.keep)}. {whose}"
        yield ""
        yield "| column | holds | for what | readable |"
        yield "|---|---|---|---|"
        for name, label in table.columns.items():
            holds = label.holds.value + (", sealed" if label.sealed else "")
            span = _kept(table.keep) if label.days is None else f"{label.days} days"
            yield f"| `{name}` | {holds} | {label.why} | {span} |"
    yield ""
    yield "## Files in `state_dir`"
    yield ""
    yield "| file | holds | for what | kept |"
    yield "|---|---|---|---|"
    for file in FILES:
        yield f"| `{file.path}` | {file.holds.value} | {file.why} | {file.keep} |"


def _kept(keep: Keep) -> str:
    match keep:
        case ByDay(days):
            return f"{days} days"
        case After(column, 0):
            return f"until the time in `{column}`"
        case After(column, days):
            return f"{days} days from `{column}`"
        case While(lasts):
            return f"as long as {lasts}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
