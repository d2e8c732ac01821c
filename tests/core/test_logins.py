"""What is remembered of people while we run does not grow with them."""

from bridge.core.signin import Beginnings
from bridge.sdk.ids import UserId


async def test_who_began_to_sign_in_is_remembered_of_ten_thousand_at_most() -> None:
    beginnings = Beginnings()
    for number in range(10_050):
        beginnings.count(UserId(f"@{number}:test.example"))
    assert len(beginnings._begun) == 10_000
