"""The page of the data map, ``docs/reference/data-map.md``."""

from collections.abc import Iterator

from bridge.storage.datamap import DATA_MAP, RECEIVED_DAYS
from bridge.storage.labels import Stays, Table, kept
from bridge.storage.statefiles import FILES


def data_map_page() -> str:
    """The text of ``docs/reference/data-map.md``."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# What Trestle keeps"
    yield ""
    yield "Made from `bridge/storage/datamap.py`, by which the database also forgets: by whole"
    yield "days, just after midnight UTC, and every hour what has a time of its own. *Sealed*"
    yield "means encrypted before it reaches the database; the key of a day is destroyed after"
    yield f"{RECEIVED_DAYS} days, and with it what every copy and backup holds of that day."
    yield ""
    yield "It also decides what is in the copy that people get of what is kept about them (`data`,"
    yield "said to the bot), and what goes when they have that erased (`forget me`): see"
    yield "[your own data](../how-to/own-data.md)."
    for table in DATA_MAP:
        whose = f"Whose: the person in `{table.subject}`." if table.subject else "Whose: nobody's."
        yield ""
        yield f"## {table.name}"
        yield ""
        yield f"{_sentence(table.why)} Kept: {kept(table.keep)}. {whose}{_erased(table)}"
        yield ""
        yield "| column | holds | for what |"
        yield "|---|---|---|"
        for name, label in table.columns.items():
            holds = label.holds.value + (", sealed" if label.sealed else "")
            span = "" if label.days is None else f"; readable for {label.days} days"
            yield f"| `{name}` | {holds} | {label.why}{span} |"
    yield ""
    yield "## Files in `state_dir`"
    yield ""
    yield "| file | holds | for what | kept |"
    yield "|---|---|---|---|"
    for file in FILES:
        yield f"| `{file.path}` | {file.holds.value} | {file.why} | {file.keep} |"


def _erased(table: Table) -> str:
    """What becomes of a person's rows when they have what is kept about them erased."""
    if table.subject is None:
        return ""
    if not isinstance(table.erased, Stays):
        but = f", but for {table.erased.but}" if table.erased.but else ""
        return f" Erased: it goes{but}."
    how = "it stays" if table.erased.named else "it stays without the name"
    return f" Erased: {how}, {table.erased.why}."


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
