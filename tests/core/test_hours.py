"""The hourly work is done every hour, and as soon as another day has begun."""

from datetime import date

from bridge.running.hours import Hours

TODAY, TOMORROW = date(2030, 1, 1), date(2030, 1, 2)


def test_it_is_due_soon_after_the_start_then_every_hour_and_when_a_day_begins() -> None:
    hours = Hours(0, TODAY)
    due = [now for now in range(10_000) if hours.are_due(now, TODAY if now < 5000 else TOMORROW)]
    assert due == [30, 3630, 5000, 8600]


def test_what_failed_is_due_again_in_a_minute() -> None:
    hours = Hours(0, TODAY)
    assert hours.are_due(7, TOMORROW)
    hours.note_failure(7)
    assert [now for now in range(8, 100) if hours.are_due(now, TOMORROW)] == [67]
