"""Graphemes, with the ``regex`` package's ``\\X`` as the oracle."""

import re
import unicodedata
from itertools import product

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.sdk import codepoints
from bridge.sdk.graphemes import graphemes
from tests.rigs.scale import examples
from tests.sdk.make_codepoints import CLASSES, EVERYTHING, characters

ORACLE = regex.compile(r"\X")
# The oracle joins a virama and a consonant though none stands before: GB9c asks for both.
STRAY = regex.compile(
    r"(?<!\p{InCB=Consonant}[\p{InCB=Extend}\p{InCB=Linker}]*)\p{InCB=Linker}"
    r"[\p{InCB=Extend}\p{InCB=Linker}]*\p{InCB=Consonant}"
)
TELLING = [
    *("\r", "\n", "\0", "a", "\u0301", "\u200b", "\u200c", "\u200d", "\ufe0f", "\u20e3"),
    *("\u0600", "\u0903", "\u0e33", "\u0915", "\u0937", "\u094d", "\u093c", "\u0bcd", "\u1000"),
    *("\u1039", "\u1100", "\u1160", "\u11a8", "\uac00", "\uac01", "\U0001f1e6", "\U0001f1ff"),
    *("\U0001f468", "\U0001f3fd", "\u2764", "\u2605", "\xa9", "\U000e0067", "\U000e007f", "中"),
]
KNOWN = st.characters(exclude_categories=["Cs", "Cn", "Co"])


@pytest.mark.parametrize(
    "whole",
    [
        "e\u0301",
        "e" + "\u0301\u0323" * 20,
        "\r\n",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
        "\u2764\ufe0f\u200d\U0001f525",
        "\U0001f44d\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        "1\ufe0f\u20e3",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "\u1112\u1161\u11ab",
        "한",
        "\u0915\u094d\u0937\u093f",
        "\u0600١",
    ],
)
def test_what_people_see_as_one_character_is_one(whole: str) -> None:
    assert list(graphemes(f"a{whole}b")) == ["a", whole, "b"]


def test_flags_side_by_side_are_told_apart() -> None:
    assert list(graphemes("🇩🇪🇫🇷🇬")) == ["🇩🇪", "🇫🇷", "🇬"]


def test_no_text_has_no_graphemes() -> None:
    assert list(graphemes("")) == []


def test_every_row_of_three_telling_characters_is_cut_as_the_oracle_cuts_it() -> None:
    for three in map("".join, product(TELLING, repeat=3)):
        if STRAY.search(three):
            continue
        assert list(graphemes(three)) == ORACLE.findall(three), ascii(three)


@examples(1000)
@given(st.text(st.sampled_from(TELLING) | KNOWN, max_size=20))
def test_any_text_is_cut_as_the_oracle_cuts_it(text: str) -> None:
    assume(not STRAY.search(text))
    assert list(graphemes(text)) == ORACLE.findall(text)


def test_a_virama_joins_only_what_stands_between_two_consonants() -> None:
    assert list(graphemes("a\u094d\u0924")) == ["a\u094d", "\u0924"]
    assert list(graphemes("\u0915\u094d\u200d\u0924")) == ["\u0915\u094d\u200d\u0924"]
    assert list(graphemes("\u0915\u094d\u0903\u0924")) == ["\u0915\u094d\u0903", "\u0924"]


@examples(200)
@given(st.text(st.characters(), max_size=20))
def test_nothing_is_lost_whatever_the_text_holds(text: str) -> None:
    assert "".join(graphemes(text)) == text


@pytest.mark.parametrize("name", CLASSES)
def test_the_properties_are_those_of_unicode(name: str) -> None:
    ours = set(re.findall(f"[{getattr(codepoints, name)}]", EVERYTHING))
    # The oracle may be newer or older than our table: only what has long been there must agree.
    wrong = [one for one in ours ^ characters(name) if unicodedata.category(one) != "Cn"]
    assert not wrong, f"run python -m tests.sdk.make_codepoints: {wrong[:10]!a}"


@pytest.mark.parametrize(
    "unit", ["\u0301", "\u200d", "\u094d", "\u0600", "\u0915\u094d", "\u1100", "\U0001f1e6"]
)
def test_long_runs_take_linear_time(unit: str) -> None:
    # Quadratic, this would take minutes.
    text = "\u0915\U0001f44d" + unit * 100_000
    assert "".join(graphemes(text)) == text
