"""What is said in plain text of an edit."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bridge.core.traffic.words import difference, excerpt
from tests.rigs.quick import is_quick
from tests.rigs.scale import examples

WORDS = some.lists(some.sampled_from(["a", "the", "cat", "dog", "1/2", "end", "an"]), max_size=8)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("I like teh cat", "I like the cat", "s/teh/the/"),
        ("hello world", "hello there world", "s/hello/hello there/"),
        ("one two three four", "one two four", "s/two three/two/"),
        ("foo bar foo baz", "foo bar foo qux", "s/baz/qux/"),
        ("a", "b", "* b"),
        ("meet at 5/6 ok now", "meet at 5/7 ok now", "* meet at 5/7 ok now"),
        ("x\ny\nz", "x\nY there\nz", "* Y there"),
        ("first\nsecond", "first\nsecond\nthird", "* third"),
        ("first\nsecond", "first", "* first"),
        ("", "all new", "* all new"),
        ("same  text", "same text", ""),
    ],
)
def test_a_small_change_is_said_by_itself_and_a_great_one_as_the_whole_line(
    old: str, new: str, said: str
) -> None:
    assert difference(old, new) == said


@examples(100)
@given(WORDS, WORDS)
def test_what_is_said_of_a_change_leads_from_the_old_text_to_the_new(
    old: list[str], new: list[str]
) -> None:
    before, after = " ".join(old), " ".join(new)
    said = difference(before, after)
    if said.startswith("s/"):
        gone, come = said[2:-1].split("/")
        starts = [at for at in range(len(before)) if before.startswith(gone, at)]
        assert len(starts) == 1
        assert before.replace(gone, come).split() == after.split()
    elif said:
        assert said == f"* {after}"
    else:
        assert before.split() == after.split() or not after


@pytest.mark.parametrize("times", [900, 2_000, 30_000])
def test_whatever_is_edited_is_compared_in_a_moment(times: int) -> None:
    longer = "a " * (times + 1)
    assert difference("a " * times, longer) == f"* {longer}"
    # Quadratic, it would be minutes.
    assert is_quick(lambda: difference("a " * times, longer), 1)


def test_an_excerpt_is_one_line_and_cuts_no_grapheme() -> None:
    assert excerpt("two\nlines") == "two lines"
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    assert excerpt(family * 100) == family * 40 + "…"
