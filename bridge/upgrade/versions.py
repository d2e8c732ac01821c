"""The examples as they were shipped, and which of them a file was made from."""

import re
from collections.abc import Mapping
from importlib.resources import files

from bridge.sdk.errors import ConfigError
from bridge.upgrade.example import read_example, same_words

_NAMED = re.compile(
    r"(?m)^(# (?:The s|S)ettings of Trestle)(?: (\d[0-9A-Za-z.]*[0-9A-Za-z]))?(?=[.;])"
)


def shipped() -> dict[str, str]:
    """The example of each version, oldest version first."""
    folder = files("bridge") / "shipped"
    texts = {
        entry.name.removesuffix(".yaml"): entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }
    return dict(sorted(texts.items(), key=lambda pair: _age(pair[0])))


def named_version(text: str) -> str | None:
    """The version that a file names at its head, None if it names none."""
    match = _NAMED.search(text.removeprefix("\ufeff"))
    return None if match is None else match[2]


def name_version(text: str, version: str) -> str:
    """The text with that version named at its head."""
    if _NAMED.search(text):
        return _NAMED.sub(lambda match: f"{match[1]} {version}", text, count=1)
    newline = "\r\n" if "\r\n" in text else "\n"
    # Not the words of the first key, nor a paragraph of its own above the admin's head.
    gap = "" if text.startswith(("#", newline)) else newline
    return f"# Settings of Trestle {version}.{newline}{gap}{text}"


def refuse_newer(text: str, ours: str) -> None:
    """Raise ``ConfigError`` if a file names a version that is newer than ours."""
    named = named_version(text)
    if named is not None and _age(named) > _age(ours):
        raise ConfigError(
            f"the file is for Trestle {named}, which is newer than this one ({ours}); it is left "
            "as it is"
        )


def base_of(text: str, examples: Mapping[str, str]) -> str:
    """The version whose example the file was made from.

    It is the one that the file names; else the one of whose words and lines the file has most.
    Among equals it is the oldest, so that the most is offered.
    """
    named = named_version(text)
    if named is not None and named in examples:
        return named
    return max(examples, key=lambda version: _likeness(text, examples[version]))


def _likeness(text: str, example: str) -> int:
    said = same_words([line for line in text.splitlines() if line.lstrip().startswith("#")])
    found = 0
    for entry in read_example(example).values():
        words = same_words(entry.comment)
        found += bool(words) and words in said
        found += same_words(entry.lines) in said
    return found


def _age(version: str) -> tuple[list[int], int]:
    numbers, _, rest = version.partition(".dev")
    # A development version comes before the version that it leads to.
    return [int(one) for one in re.findall(r"\d+", numbers)], int(rest or 1_000_000)
