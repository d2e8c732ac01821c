"""``trestle doctor``: what is wrong with this installation, each with the way out."""

from bridge.doctor.doctor import Doctor, Finding
from bridge.doctor.surroundings import Surroundings

__all__ = ["Doctor", "Finding", "Surroundings"]
