"""Matrix HTML to the tree and back."""

from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.matrix.html import render_html
from bridge.matrix.htmltree import clean, parse_html
from bridge.sdk.ids import UserId
from bridge.sdk.rich import (
    DEEPEST,
    Code,
    Colour,
    Items,
    LineBreak,
    Link,
    Mention,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
)
from bridge.sdk.text import to_plain
from tests.matrix.meaning import meaning
from tests.rigs.quick import is_quick
from tests.rigs.scale import examples
from tests.rigs.trees import HOSTILE, depth_of, seen, texts

KIB_64 = 64 * 1024
BOB = UserId("@bob:example.org")


def bold(*children: Node) -> Styled:
    return Styled(Style.BOLD, children)


def texts_of(*lines: str) -> tuple[Node, ...]:
    """The nodes of plain lines."""
    return Rich.plain("\n".join(lines)).nodes


@pytest.mark.parametrize(
    ("written", "nodes"),
    [
        ("a &lt;b&gt; &amp;amp; &copy;", texts_of("a <b> &amp; ©")),
        ("<b>a</b><strong>b</strong>", (bold(Text("a")), bold(Text("b")))),
        ("<i>a</i>", (Styled(Style.ITALIC, (Text("a"),)),)),
        ("<em>a</em>", (Styled(Style.ITALIC, (Text("a"),)),)),
        ("<u>a</u>", (Styled(Style.UNDERLINE, (Text("a"),)),)),
        ("<del>a</del>", (Styled(Style.STRIKE, (Text("a"),)),)),
        ("<s>a</s>", (Styled(Style.STRIKE, (Text("a"),)),)),
        ("<strike>a</strike>", (Styled(Style.STRIKE, (Text("a"),)),)),
        ("<code>a</code>", (Styled(Style.MONO, (Text("a"),)),)),
        ("<span>a</span>", texts_of("a")),
        ("a<br>b<br/>c<br />d", texts_of("a", "b", "c", "d")),
        ("a<br><br>b", texts_of("a", "", "b")),
        ("<p>a</p>\n<p>b</p>", texts_of("a", "b")),
        ("<div>a<div>b</div>c</div>d", texts_of("a", "b", "c", "d")),
        ("<h1>a</h1>b", (bold(Text("a")), LineBreak(), Text("b"))),
        ("<h6>a</h6>", (bold(Text("a")),)),
        ("a<hr>b", texts_of("a", "---", "b")),
        ("E = mc<sup>2</sup>, H<sub>2</sub>O", texts_of("E = mc², H₂O")),
        ("1<sup>st</sup>", texts_of("1st")),
        ('<img src="mxc://a/b" alt="a cat">', texts_of("a cat")),
        ('<img data-mx-emoticon title=":cat:" src="mxc://a/b">', texts_of(":cat:")),
        ("<details><summary>a</summary>b</details>", texts_of("a", "b")),
        ('<span data-mx-maths="x^2">x²</span>', texts_of("x²")),
        (
            '<div data-mx-maths="x^2"><code>x^2</code></div>',
            (Styled(Style.MONO, texts_of("x^2")),),
        ),
        ('<span data-mx-maths="x^2"></span>', texts_of("x^2")),
    ],
)
def test_what_the_specification_allows_is_read(written: str, nodes: tuple[Node, ...]) -> None:
    assert parse_html(written).nodes == nodes


@pytest.mark.parametrize(
    ("written", "nodes"),
    [
        ('<span data-mx-color="#FF0000">a</span>', (Colour("#ff0000", None, texts_of("a")),)),
        ('<font color="#00ff00">a</font>', (Colour("#00ff00", None, texts_of("a")),)),
        ('<span data-mx-bg-color="#0000ff">a</span>', (Colour(None, "#0000ff", texts_of("a")),)),
        ('<span data-mx-color="red">a</span>', texts_of("a")),
        ('<span data-mx-color="#ff0000\n">a</span>', texts_of("a")),
        ('<span data-mx-color="#ff0000;x:y">a</span>', texts_of("a")),
        ("<span data-mx-spoiler>a</span>", (Styled(Style.SPOILER, texts_of("a")),)),
        (
            '<span data-mx-spoiler="the\nend">a</span>',
            (Text("(the end) "), Styled(Style.SPOILER, texts_of("a"))),
        ),
        (
            '<span data-mx-spoiler data-mx-color="#ff0000">a</span>',
            (Styled(Style.SPOILER, (Colour("#ff0000", None, texts_of("a")),)),),
        ),
    ],
)
def test_colours_and_spoilers_are_read(written: str, nodes: tuple[Node, ...]) -> None:
    assert parse_html(written).nodes == nodes


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<ul>\n<li>a</li>\n<li>b</li>\n</ul>\nc", "• a\n• b\nc"),
        ('<ol start="9"><li>a</li><li>b</li></ol>', "9. a\n10. b"),
        ('<ol start="-1"><li>a</li></ol>', "-1. a"),
        ('<ol start="1e9"><li>a</li></ol>', "1. a"),
        ("<ul><li>\n<p>a</p>\n<p>b</p>\n</li></ul>", "• a\n  b"),
        ("<ul><li>a<ol><li>b</li></ol></li><li>c</li></ul>", "• a\n  1. b\n• c"),
        ("<ul><li>a</li><ul><li>b</li></ul></ul>", "• a\n  • b"),
        ("<ul>x<li>a<li>b</ul>", "• x\n• a\n• b"),
        ("x<ul></ul>y", "x\ny"),
        ("<li>a</li>b", "a\nb"),
        ("<blockquote>\n<p>a<br>b</p>\n</blockquote>\n<p>c</p>\n", "> a\n> b\nc"),
        ("a<blockquote>b<blockquote>c</blockquote>d</blockquote>e", "a\n> b\n> > c\n> d\ne"),
        ("a<blockquote></blockquote>b", "a\nb"),
        ("<blockquote><ul><li>a</li></ul></blockquote>", "> • a"),
        (
            "<table><caption>t</caption><thead><tr><th>a</th><th>b</th></tr></thead>\n<tbody>"
            "<tr><td><p>1</p></td><td>2</td></tr>\n<tr><td>3</td><td></td></tr></tbody></table>x",
            "t\na | b\n1 | 2\n3\nx",
        ),
        ("<table><tr><td>1<td>2<tr><td>3<td>4</table>", "1 | 2\n3 | 4"),
        ("<td>a</td><td>b</td>", "a\nb"),
        ("<p>a<p>b<ul><li>c</ul>d", "a\nb\n• c\nd"),
    ],
)
def test_blocks_are_read(written: str, said: str) -> None:
    assert to_plain(parse_html(written)) == said


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('<pre><code class="language-python">a\n  b\n</code></pre>', Code("a\n  b", "python")),
        ('<pre><code class="x language-c++ y">a</code></pre>', Code("a", "c++")),
        ("<pre><code class='language-\"'>a</code></pre>", Code("a")),
        ("<pre>\na\n\n</pre>", Code("a\n")),
        ("<pre>a<br>b</pre>", Code("a\nb")),
        ("<pre>a <b>b</b> <a href='https://a.example'>c</a></pre>", Code("a b c")),
        ("<pre>a<ul><li>b</li></ul></pre>", Code("ab")),
        ("<pre>&lt;b&gt;  \t x</pre>", Code("<b>  \t x")),
        ("<pre></pre>", Code("")),
    ],
)
def test_code_is_read_as_it_is_written(written: str, code: Code) -> None:
    assert parse_html(written).nodes == (code,)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("  a \n\t b  ", "a b"),
        ("a <b> b </b> c", "a b c"),
        ("<p> a </p> <p> b </p>", "a\nb"),
        ("a <br> b", "a\nb"),
        ("a\xa0\xa0b", "a\xa0\xa0b"),
        ("<b>a</b> <i>b</i>", "a b"),
    ],
)
def test_white_space_is_read_as_browsers_read_it(written: str, said: str) -> None:
    assert to_plain(parse_html(written)) == said


@pytest.mark.parametrize(
    ("address", "node"),
    [
        ("https://matrix.to/#/@bob:example.org", Mention(BOB, "B")),
        ("https://matrix.to/#/%40bob%3Aexample.org?via=x", Mention(BOB, "B")),
        ("https://matrix.to/#/@bob:example.org/", Mention(BOB, "B")),
        ("matrix:u/bob:example.org", Mention(BOB, "B")),
        ("https://matrix.to/#/@a%2Fb:c", Mention(UserId("@a/b:c"), "B")),
        ("https://matrix.to/#/@%20:c", Link("https://matrix.to/#/@%20:c", texts_of("B"))),
        ("https://matrix.to/#/!room/$e", Link("https://matrix.to/#/!room/$e", texts_of("B"))),
        ("HTTPS://a.example/ x", Link("HTTPS://a.example/%20x", texts_of("B"))),
        ("mailto:a@b.example", Link("mailto:a@b.example", texts_of("B"))),
        ("magnet:?xt=1", Link("magnet:?xt=1", texts_of("B"))),
        ("ht\ntps://a.example/", Link("https://a.example/", texts_of("B"))),
        ("javascript:alert(1)", Text("B")),
        (" \x01java\nscript:alert(1)", Text("B")),
        ("data:text/html,x", Text("B")),
        ("vbscript:x", Text("B")),
        ("file:///etc/passwd", Text("B")),
        ("//a.example/", Text("B")),
        ("/path", Text("B")),
        ("https:", Text("B")),
        ("https://[", Text("B")),
        ("", Text("B")),
    ],
)
def test_links_lead_to_people_or_harmless_places(address: str, node: Node) -> None:
    assert parse_html(f'<a href="{address}">B</a>').nodes == (node,)


def test_a_mention_has_a_name_of_one_line() -> None:
    link = '<a href="https://matrix.to/#/@bob:example.org">'
    assert parse_html(f"{link}B<br> <b>b</b></a>").nodes == (Mention(BOB, "B b"),)
    assert parse_html(f"{link} <br></a>").nodes == (Mention(BOB, "@bob:example.org"),)


def test_a_user_id_that_is_too_long_is_nobody() -> None:
    (node,) = parse_html(f'<a href="https://matrix.to/#/@{"a" * 300}:b">x</a>').nodes
    assert isinstance(node, Link)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<mx-reply><blockquote>said</blockquote></mx-reply>answer", "answer"),
        ("<mx-reply>a<mx-reply>b</mx-reply>c</mx-reply>d", "d"),
        ("a<script>if (a<b) alert('</div>')</script>b", "ab"),
        ("a<SCRIPT>x</script >b", "ab"),
        ("a<style>p > b {}</style>b", "ab"),
        ("a<!-- b -->c<!-->d<!--->e<!-- --!>f<!DOCTYPE x>g<?php h ?>i<![CDATA[j]]>k", "acdefgik"),
        ("a<!-- b", "a"),
        ("a<script>b", "a"),
        ("a < b > c <3 </3 <", "a < b > c <3 </3 <"),
        ("a <b", "a <b"),
        ("<b>a", "a"),
        ("a</b></p></ul>b", "ab"),
        ("<b><i>a</b>b</i>c", "abc"),
        ("<unknown x=y>a</unknown>", "a"),
        ("<custom-x>a</custom-x><iframe src='https://a.example'>b</iframe>", "ab"),
        ("<a href='>'>b</a>", "b"),
        ("<a href='>b</a>c", "bc"),
        ("<B>a</b>", "a"),
        ("a\0b&#0;c&#xD800;d&#x110000;e", "ab\ufffdc\ufffdd\ufffde"),
        ("&#" + "9" * 5000 + ";a", "\ufffda"),
        ("&#x" + "f" * 5000 + ";a", "\ufffda"),
        ("\ud800a", "\ufffda"),
    ],
)
def test_what_nobody_should_write_is_read_all_the_same(written: str, said: str) -> None:
    assert to_plain(parse_html(written)) == said


def test_only_what_an_end_belongs_to_is_ended() -> None:
    assert to_plain(parse_html("<blockquote><b>a</p></blockquote></b>b")) == "> a\nb"
    assert to_plain(parse_html("<b>x<blockquote>a</b>b</blockquote>c")) == "x\n> ab\nc"


@examples(100)
@given(
    st.lists(
        st.sampled_from([
            *("<b>", "</b>", "<i>", "<u>", "<ul>", "</ul>", "<ol start=3>", "<li>", "</li>"),
            *("<blockquote>", "</blockquote>", "<pre>", "</pre>", "<code class=language-c>"),
            *("</code>", "<p>", "</p>", "<div>", "<br>", "<hr>", "<table>", "<tr>", "<td>"),
            *("</tr>", "</td>"),
            *("</table>", "<a href='https://a.example/'>", "</a>", "<span data-mx-spoiler=x>"),
            *("<a href='https://matrix.to/#/@a:b'>", "<a href='javascript:x'>", "</span>"),
            *("<span data-mx-color=#ff0000>", "<mx-reply>", "</mx-reply>", "<script>"),
            *("</script>", "</custom>"),
            *("<!--", "-->", "<![", "<?", "<", ">", '"', "'", "=", "/", "&#", "&#x0;", "\n", " "),
            *("<sup>", "</sup>", "<img alt=x>", "<h1>", "</h1>", "<details>", "2", "word"),
        ])
        | st.sampled_from(HOSTILE)
        | st.characters(),
        max_size=60,
    ).map("".join)
)  # fmt: skip
def test_whatever_is_sent_becomes_a_sound_tree(written: str) -> None:
    rich = parse_html(written)
    assert depth_of(rich) <= DEEPEST
    assert clean(to_plain(rich)) == to_plain(rich)
    rendered = render_html(rich)
    check_allowed(rendered)
    assert meaning(parse_html(rendered)) == meaning(rich)


@pytest.mark.parametrize(
    "unit",
    [
        *("<a ", "<!--", "<![", "</a ", "<!", "<?", '<a x="', "<a x='", "<a x=", "<a =", "<b>"),
        *("<li>", "<ul><li>", "<ol>", "&", "&#", "&#9", "<script>", "<script>a</scrip", "<pre>"),
        *("<a href=https://a.example>x", "</b>", "<table><tr><td>x", "<![if x]", "<!DOCTYPE ["),
        *("<span data-mx-spoiler=x data-mx-color=#ff0000>x", "<blockquote>x", "<mx-reply>", "-->"),
        *("<p>x", "<p>x</p>", "<br>", "x<br>", "<b>x</b> ", "<hr>", "<i>x<b>y</i>z</b>", "<td>x"),
        *("<blockquote>x<br>", "<b><blockquote>", "> ", "<", "a ", "\n", "\0", "\u0301", "\ud800"),
    ],
)
def test_64_kib_of_anything_are_read_said_and_written_in_a_moment(unit: str) -> None:
    text = unit * (KIB_64 // len(unit))

    def go_through() -> None:
        rich = parse_html(text)
        to_plain(rich)
        render_html(rich)

    assert is_quick(go_through, 5)  # Quadratic, it would be minutes.


@pytest.mark.parametrize("tag", ['<font color="#000000">', "<blockquote>", "<ul><li>"])
def test_64_kib_of_lines_within_many_elements_are_said_in_a_moment(tag: str) -> None:
    text = tag * 49 + "a<br>" * 12_000
    # As deep as they were written, it was five.
    assert is_quick(lambda: to_plain(parse_html(text)), 2)


@pytest.mark.parametrize("tag", ["b", "blockquote", "ul><li", "span data-mx-color=#ff0000", "pre"])
def test_nesting_of_any_depth_is_read(tag: str) -> None:
    written = f"<{tag}>" * 100_000 + "text" + f"</{tag.split(maxsplit=1)[0]}>" * 100_000 + "more"
    rich = parse_html(written)
    assert depth_of(rich) <= DEEPEST
    said = "".join(str(one) for one, _ in seen(rich.nodes))
    assert "".join(said.split()) == "textmore"


@pytest.mark.parametrize("attribute", ["href", "class", "data-mx-color", "style", "x" * 60_000])
def test_huge_attributes_are_read(attribute: str) -> None:
    written = f'<a {attribute}="{"a" * 60_000}" href="https://a.example/">x</a>'
    assert to_plain(parse_html(written)).startswith("x")
    many = "<span " + " ".join(f"a{number}=b" for number in range(9_000)) + ">x</span>"
    assert to_plain(parse_html(many)) == "x"


# --- there and back ---


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (Text("<b> & \"q\" 'a'"), "&lt;b&gt; &amp; &quot;q&quot; &#x27;a&#x27;"),
        (Text("a   b"), "a\xa0\xa0 b"),
        (Text("a\nb\0\ud800"), "a<br>b\ufffd"),
        (bold(Text("a")), "<strong>a</strong>"),
        (Colour("#FF0000", '"><script>', (Text("a"),)), '<span data-mx-color="#ff0000">a</span>'),
        (Colour("red", None, (Text("a"),)), "a"),
        (Link("javascript:x", (Text("a"),)), "a"),
        (Link('https://a.example/"><b>', ()), None),
        (
            Link("https://a.example/?a&b", (Text("a"),)),
            '<a href="https://a.example/?a&amp;b">a</a>',
        ),
        (Link("https://a.example/", ()), '<a href="https://a.example/">https://a.example/</a>'),
        (
            Link("https://a.example/", (Code("\0", None),)),
            '<a href="https://a.example/">https://a.example/</a>',
        ),
        (
            Link("https://a.example/", (Link("https://b.example/", (Text("b"),)),)),
            '<a href="https://a.example/">b</a>',
        ),
        (Mention(BOB, "<Bob>"), '<a href="https://matrix.to/#/@bob:example.org">&lt;Bob&gt;</a>'),
        (
            Mention(UserId("@a/b?c=2f:d"), "x"),
            '<a href="https://matrix.to/#/@a%2Fb%3Fc=2f:d">x</a>',
        ),
        (Mention(UserId("no id"), "x"), "x"),
        (Code("a < b\n", "c"), '<pre><code class="language-c">a &lt; b\n\n</code></pre>'),
        (Code("x", '"><script>'), None),
        (Items(((Text("a"),),), ordered=True, start=3), '<ol start="3"><li>a</li></ol>'),
        (Quote((Text("a"),)), "<blockquote>a</blockquote>"),
    ],
)
def test_a_tree_is_written_as_matrix_html(node: Node, written: str | None) -> None:
    rendered = render_html(Rich((node,)))
    check_allowed(rendered)
    assert written is None or rendered == written


@examples(150)
@given(texts)
@example(Rich((Link("https://a.example/", (Code("\0"),)),)))
def test_there_and_back_the_meaning_stays(rich: Rich) -> None:
    rendered = render_html(rich)
    check_allowed(rendered)
    assert meaning(parse_html(rendered)) == meaning(rich)


@examples(100)
@given(st.text(st.characters() | st.sampled_from("\n <&")))
def test_code_comes_back_character_by_character(text: str) -> None:
    code = Code(clean(text).replace("\r", ""), "c")
    assert parse_html(render_html(Rich((code,)))).nodes == (code,)


ALLOWED = {
    "strong": set[str](), "em": set[str](), "u": set[str](), "del": set[str](),
    "code": {"class"}, "span": {"data-mx-color", "data-mx-bg-color", "data-mx-spoiler"},
    "a": {"href"}, "pre": set[str](), "blockquote": set[str](), "ul": set[str](),
    "ol": {"start"}, "li": set[str](), "br": set[str](),
}  # fmt: skip
"""What we write, of what the specification allows."""


class _Check(HTMLParser):
    """Another reader than ours, so that no fault is common to both."""

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED
        for name, value in attrs:
            assert name in ALLOWED[tag]
            if name == "href":
                assert (value or "").startswith(("https:", "mailto:", "magnet:", "HTTPS:"))


def check_allowed(written: str) -> None:
    check = _Check()
    check.feed(written)
    check.close()
