"""Links to media: who can make one, and until when it is good."""

from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from urllib.parse import unquote

import pytest

from bridge.matrix.medialinks import Media, MediaLinks, read_mxc
from bridge.sdk.ids import EventId, RoomId


class Calendar:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 25, 23, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def today(self) -> date:
        return self.time.date()


MEDIA = Media("example.org:8448", "AbC_d-1")


ROOM, EVENT = RoomId("!room"), EventId("$event")


def made_by(clock: Calendar, *, generation: int = 1) -> MediaLinks:
    def key_of(text: str) -> bytes:
        return blake2b(text.encode(), digest_size=16).digest()

    return MediaLinks("https://p.example/", key_of, clock, days=2, generation=generation)


def parts(link: str) -> tuple[str, Media, str, str, str]:
    until, server, id_, mark, signature, name = map(unquote, link.rsplit("/", 6)[1:])
    return until, Media(server, id_), mark, signature, name


def test_a_link_is_good_for_its_days_and_for_nothing_else() -> None:
    clock = Calendar()
    links = made_by(clock)
    link = links.make(MEDIA, "a b/c\n.png")
    assert link.startswith("https://p.example/media/")
    assert link.isascii()
    until, media, mark, signature, name = parts(link)
    assert (media, name) == (MEDIA, "a_b_c_.png")
    assert links.read(until, media, mark, signature, name)
    for other in ("", "x", "-1", "٣", "9" * 50):
        assert not links.read(other, media, mark, signature, name)
    assert not links.read(until, media, mark, signature, "b.png")
    assert not links.read(until, media, mark, "ä", name)
    clock.time += timedelta(days=2)
    assert links.read(until, media, mark, signature, name)
    clock.time += timedelta(days=1)
    assert not links.read(until, media, mark, signature, name)


def test_a_link_that_was_made_while_the_clock_was_ahead_is_good_for_no_longer_than_others() -> (
    None
):
    clock = Calendar()
    links = made_by(clock)
    clock.time += timedelta(days=30)
    until, media, mark, signature, name = parts(links.make(MEDIA, "a.png"))
    clock.time -= timedelta(days=1)
    assert links.read(until, media, mark, signature, name)
    clock.time -= timedelta(days=29)
    assert not links.read(until, media, mark, signature, name)


def test_a_link_to_a_file_of_whatever_name_fits_a_line_and_keeps_its_end() -> None:
    links = made_by(Calendar())
    link = links.make(MEDIA, "Протокол заседания Совета депутатов от 12 ноября.pdf")
    assert len(link) < 300
    until, media, mark, signature, name = parts(link)
    assert name.endswith("ноября.pdf")
    assert links.read(until, media, mark, signature, name)
    assert parts(links.make(MEDIA, "x" * 200 + ".png"))[-1] == "x" * 76 + ".png"
    assert parts(links.make(MEDIA, "\N{CJK UNIFIED IDEOGRAPH-20000}"))[-1] != ""


def test_a_link_tells_by_a_mark_which_message_shows_it_and_after_a_restore_leads_nowhere() -> None:
    clock = Calendar()
    links = made_by(clock)
    mark = links.mark_of(ROOM, EVENT)
    assert len({
        mark, links.mark_of(RoomId("!other"), EVENT), links.mark_of(ROOM, EventId("$other"))
    }) == 3  # fmt: skip
    link = links.make(MEDIA, "a", mark)
    until, media, told, signature, name = parts(link)
    assert told == mark
    assert links.read(until, media, mark, signature, name)
    # Nobody gives a link the mark of another message, or none.
    for other in (links.mark_of(ROOM, EventId("$other")), "-", ""):
        assert not links.read(until, media, other, signature, name)
    assert not made_by(clock, generation=2).read(until, media, mark, signature, name)


def test_without_a_public_address_there_are_none() -> None:
    links = MediaLinks(None, lambda text: b"", Calendar(), days=2, generation=1)
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
