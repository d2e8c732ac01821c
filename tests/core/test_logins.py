"""What is remembered of people while we run does not grow with them."""

from typing import cast

from bridge.core.loginmeans import Means
from bridge.core.logins import Logins
from bridge.sdk.ids import UserId


async def test_who_began_to_sign_in_is_remembered_of_ten_thousand_at_most() -> None:
    logins = Logins({}, cast(Means, None))
    for number in range(10_050):
        logins._count_begun(UserId(f"@{number}:test.example"))
    assert len(logins._begun) == 10_000
