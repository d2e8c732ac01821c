"""How much of a proof runs: a fiftieth by default, all of it in ``make prove``."""

import os
import random

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

SCALE = int(os.environ.get("TRESTLE_PROVE", "1"))
"""1 in ``make test``, 50 in ``make prove``."""

SEED = int(os.environ.get("TRESTLE_SEED", "1"))
"""Where chance begins; printed at the head of every run."""


def chance(name: str) -> random.Random:
    """Chance that a run with the same seed repeats; ``name`` tells one test's from another's."""
    return random.Random(f"{SEED} {name}")


def scaled(count: int) -> int:
    """As many of ``count`` as this run asks for: all in the long form, else a fiftieth."""
    return max(1, count * SCALE // 50)


settings.register_profile(
    "trestle",
    # In CI, Hypothesis would try the same examples in every run, whatever the seed.
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
    max_examples=100 * SCALE,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""That a machine is slow is no failure, be it in what is tested or in making the examples."""
settings.load_profile("trestle")


def examples(count: int, *, sharing: bool = False) -> settings:
    """Hypothesis settings for ``count`` examples by default, fifty times that in the long form.

    ``sharing``: all of them have the test's fixtures as the one before left them.
    """
    shared = [HealthCheck.function_scoped_fixture] if sharing else []
    return settings(
        max_examples=count * SCALE, suppress_health_check=[HealthCheck.too_slow, *shared]
    )
