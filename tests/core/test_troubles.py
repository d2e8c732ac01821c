"""The last warnings are kept, whatever is logged."""

import logging

import pytest

from bridge.core.oversight.status import Troubles


def test_a_line_that_cannot_be_written_out_harms_nobody_who_logs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    troubles, library = Troubles(), logging.Logger("library")
    library.addHandler(troubles)
    library.warning("%d of them", "some")
    library.warning("%d of them", 3)
    assert [said for _, _, said in troubles.recent] == ["3 of them"]
    assert "%d of them" in capsys.readouterr().err
