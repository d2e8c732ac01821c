"""What the in-flight file tells after a crash."""

from datetime import date
from pathlib import Path

from bridge.core.inflight import InFlight, Share, consumer_number
from bridge.model import ItemId

DAY = date(2026, 3, 1)
PORTAL, BOT = consumer_number("portal:1"), consumer_number("bot:dice")


def _item(seq: int, place: int = 0) -> ItemId:
    return ItemId(DAY, seq, place)


def test_what_began_and_did_not_end_is_a_suspect_and_all_before_it_is_done(path: Path) -> None:
    file = InFlight(path)
    portal, bot = file.slot(PORTAL), file.slot(BOT)
    for seq in (1, 2, 3):
        portal.start(DAY.toordinal(), seq, 0)
        portal.finish()
    portal.start(DAY.toordinal(), 4, 7)
    bot.start(DAY.toordinal(), 2, 0)
    bot.finish()
    # No orderly close: this is what a killed process leaves.
    left = InFlight(path).recover()
    assert left.suspects == {Share(_item(4, 7), PORTAL)}
    assert [left.has_done(_item(seq), PORTAL) for seq in (1, 3, 5)] == [True, True, False]
    assert not left.has_done(_item(4, 7), PORTAL)
    assert left.has_done(_item(2), BOT)
    assert not left.has_done(_item(2, 1), BOT)
    assert not left.has_done(_item(1), consumer_number("portal:2"))


def test_what_had_no_effect_and_waits_for_another_try_is_no_suspect(path: Path) -> None:
    slot = InFlight(path).slot(PORTAL)
    slot.start(DAY.toordinal(), 4, 0)
    slot.withdraw()
    left = InFlight(path).recover()
    assert left.suspects == set()
    assert left.has_done(_item(3), PORTAL)
    assert not left.has_done(_item(4), PORTAL)
    slot.start(DAY.toordinal(), 4, 0)
    assert InFlight(path).recover().suspects == {Share(_item(4), PORTAL)}


def test_a_record_cut_short_by_a_kill_leaves_the_one_before(path: Path) -> None:
    for number in (1, 2, 255, 256, 65_535):
        path.unlink(missing_ok=True)
        file = InFlight(path)
        slot = file.slot(PORTAL)
        for seq in range(1, number + 1):
            slot.start(DAY.toordinal(), seq, 0)
        slot.finish()
        before = path.read_bytes()
        slot.start(DAY.toordinal() + 1, number + 1, 3)
        after = path.read_bytes()
        changed = [
            at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]
        ]
        for cut in range(changed[0], changed[-1] + 1):
            path.write_bytes(after[:cut] + before[cut:])
            left = InFlight(path).recover()
            assert left.suspects == set(), f"cut at {cut} of {changed}"
            assert left.has_done(_item(number), PORTAL)
            assert not left.has_done(_item(number + 1), PORTAL)


def test_the_file_grows_with_the_lanes_and_is_read_back_whole(path: Path) -> None:
    file = InFlight(path)
    numbers = [consumer_number(f"portal:{number}") for number in range(1000)]
    for seq, number in enumerate(numbers, 1):
        file.slot(number).start(DAY.toordinal(), seq, 0)
    again = InFlight(path)
    assert again.recover().suspects == {
        Share(_item(seq), number) for seq, number in enumerate(numbers, 1)
    }
    again.slot(numbers[0]).finish()
    assert Share(_item(1), numbers[0]) not in InFlight(path).recover().suspects


def test_once_the_marks_are_durable_the_file_starts_anew(path: Path) -> None:
    file = InFlight(path)
    slot = file.slot(PORTAL)
    slot.start(DAY.toordinal(), 5, 0)
    file.clear()
    assert InFlight(path).recover().newest == {}
    slot.start(DAY.toordinal(), 6, 0)
    assert InFlight(path).recover().suspects == {Share(_item(6), PORTAL)}


def test_a_file_that_is_none_of_ours_is_begun_anew(path: Path) -> None:
    for content in (b"", b"x" * 17, b"trestle2" + bytes(40_000), b"\xff" * 8192):
        path.write_bytes(content)
        file = InFlight(path)
        assert file.recover().newest == {}
        file.slot(BOT).start(DAY.toordinal(), 1, 0)
        assert InFlight(path).recover().suspects == {Share(_item(1), BOT)}
