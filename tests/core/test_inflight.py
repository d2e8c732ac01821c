"""What the in-flight file tells after a crash."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from bridge.core.lanes.inflight import InFlight, Share, consumer_number
from bridge.model import ItemId, RowId
from tests.rigs.small_disk import no_room_beyond

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


def test_how_far_a_lane_came_is_told_by_numbers_though_the_clock_was_set_back(path: Path) -> None:
    slot = InFlight(path).slot(PORTAL)
    slot.start(DAY.toordinal() + 1, 4, 0)
    slot.finish()
    left = InFlight(path).recover()
    assert [left.has_done(_item(seq), PORTAL) for seq in (3, 4, 5)] == [True, True, False]
    # And ahead again.
    later = [ItemId(DAY + timedelta(days=2), seq, 0) for seq in (3, 5)]
    assert [left.has_done(item, PORTAL) for item in later] == [True, False]


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


def test_a_slot_that_is_released_is_another_s_now_or_after_a_restart(path: Path) -> None:
    file = InFlight(path)
    for seq, consumer in enumerate((PORTAL, BOT), 1):
        slot = file.slot(consumer)
        assert slot.newest is None
        slot.start(DAY.toordinal(), seq, 2)
        slot.start(DAY.toordinal(), seq, 3)
        assert slot.newest == _item(seq, 3)
    file.vacate(PORTAL)
    file.release({RowId(DAY, 1)}, set())
    file.release(set(), {PORTAL})
    assert {share.consumer for share in InFlight(path).recover().suspects} == {PORTAL, BOT}
    file.release(set(), set())
    assert {share.consumer for share in InFlight(path).recover().suspects} == {BOT}
    for begun in (file, InFlight(path)):
        slot = begun.slot(consumer_number("portal:2"))
        assert slot.newest is None
        slot.start(DAY.toordinal(), 3, 0)
        left = InFlight(path).recover()
        assert left.newest.keys() == {BOT, consumer_number("portal:2")}
        assert begun.slot(PORTAL).newest is None
        begun.vacate(consumer_number("portal:2"))
        begun.vacate(PORTAL)
        begun.release(set(), set())


def test_the_disk_has_room_for_all_of_the_file(path: Path) -> None:
    with path.open("wb") as earlier:
        earlier.truncate(64 * 256)  # As an earlier version left it.
    file = InFlight(path)
    for number in range(1, 2000):
        file.slot(number)
    kept = path.stat()
    assert kept.st_size >= 2000 * 64
    assert kept.st_blocks * 512 >= kept.st_size


def test_on_a_full_disk_what_has_no_slot_works_on_without(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = InFlight(path)
    for number in range(1, 60):
        file.slot(number).start(DAY.toordinal(), 1, 0)
    with no_room_beyond(path.stat().st_size):
        for number in range(60, 200):
            slot = file.slot(number)
            slot.start(DAY.toordinal(), 1, 0)
            slot.finish()
        assert file.slot(199) is slot
        left = InFlight(path).recover()
    assert {share.consumer for share in left.suspects} == set(range(1, 60))
    assert [record.message for record in caplog.records] == [
        f"there is no room for {path} (File too large): until the next start a crash may have "
        "events handled twice"
    ]


def test_a_start_on_a_full_disk_is_one(path: Path) -> None:
    with no_room_beyond(0):
        file = InFlight(path)
        assert file.recover().newest == {}
        for number in range(1, 200):
            file.slot(number).start(DAY.toordinal(), 1, 0)
    assert InFlight(path).recover().newest == {}


def test_after_a_start_on_a_full_disk_room_that_is_made_is_used_by_the_next_start(
    path: Path,
) -> None:
    with no_room_beyond(0):
        file = InFlight(path)
    for number in range(1, 200):
        file.slot(number).start(DAY.toordinal(), 1, 0)
    assert InFlight(path).recover().newest == {}
