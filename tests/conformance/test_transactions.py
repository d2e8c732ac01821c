"""Lines 20 to 46 where the whole program decides: what reaches a module, once and in order."""

from tests.conformance.stage import Play, ask


async def test_line_20_three_events_reach_the_module_in_order(stage: Play) -> None:
    assert await stage.put(*map(ask, "abc")) == 200
    assert await stage.heard() == ["a", "b", "c"]


async def test_line_21_the_same_transaction_again_runs_nothing_new(stage: Play) -> None:
    for _ in range(3):
        assert await stage.put(ask("once"), name="7") == 200
    assert await stage.heard() == ["once"]


async def test_line_23_another_body_under_the_same_id_is_read(stage: Play) -> None:
    assert await stage.put(ask("first"), name="7") == 200
    assert await stage.put(ask("first"), ask("second"), name="7") == 200
    assert await stage.heard() == ["first", "second"]


async def test_line_24_an_event_in_another_transaction_is_the_same_event(stage: Play) -> None:
    assert await stage.put(ask("once"), name="7") == 200
    assert await stage.put(ask("once"), ask("new"), ask("new"), name="8") == 200
    assert await stage.heard() == ["once", "new"]


async def test_line_25_a_lower_transaction_id_is_no_reason_to_drop_its_events(stage: Play) -> None:
    for name in ("1000", "999", "1", "a"):
        assert await stage.put(ask(f"of {name}"), name=name) == 200
    assert await stage.heard() == ["of 1000", "of 999", "of 1", "of a"]
