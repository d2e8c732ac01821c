"""The settings of the remind bot."""

from pydantic import BaseModel, ConfigDict, Field


class RemindSettings(BaseModel):
    """How much one person may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most_per_person: int = Field(
        default=20, ge=1, le=100, description="Reminders that wait for one person at a time."
    )
    longest_text: int = Field(
        default=500, ge=1, le=1500, description="Characters in one reminder's text."
    )
