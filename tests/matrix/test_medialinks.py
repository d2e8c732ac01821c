"""Links to media: who can make one, and until when it is good."""

from datetime import UTC, date, datetime, timedelta
from urllib.parse import unquote

import pytest

from bridge.matrix.medialinks import Media, MediaLinks, read_mxc


class Calendar:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 25, 23, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def today(self) -> date:
        return self.time.date()


MEDIA = Media("example.org:8448", "AbC_d-1")


def parts(link: str) -> tuple[str, Media, str, str]:
    until, server, id_, signature, name = map(unquote, link.rsplit("/", 5)[1:])
    return until, Media(server, id_), signature, name


def test_a_link_is_good_for_its_days_and_for_nothing_else() -> None:
    clock = Calendar()
    links = MediaLinks("https://p.example/", lambda text: text.encode()[-16:], clock, days=2)
    link = links.make(MEDIA, "a b/c\n.png")
    assert link.startswith("https://p.example/media/")
    assert link.isascii()
    until, media, signature, name = parts(link)
    assert (media, name) == (MEDIA, "a_b_c_.png")
    assert links.read(until, media, signature, name)
    for other in ("", "x", "-1", "٣", "9" * 50):
        assert not links.read(other, media, signature, name)
    assert not links.read(until, media, signature, "b.png")
    assert not links.read(until, media, "ä", name)
    clock.time += timedelta(days=2)
    assert links.read(until, media, signature, name)
    clock.time += timedelta(days=1)
    assert not links.read(until, media, signature, name)


def test_without_a_public_address_there_are_none() -> None:
    links = MediaLinks(None, lambda text: b"", Calendar(), days=2)
    assert not links.can_link
    with pytest.raises(ValueError, match="no public address"):
        links.make(MEDIA, "a")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mxc://example.org:8448/AbC_d-1", MEDIA),
        ("mxc://[::1]/x", Media("[::1]", "x")),
        ("mxc://example.org/../x", None),
        ("mxc://example.org/a%2fb", None),
        ("mxc://exa mple/a", None),
        ("https://example.org/a", None),
        (7, None),
    ],
)
def test_only_what_is_in_a_media_repository_is_linked_to(url: object, found: object) -> None:
    assert read_mxc(url) == found
