"""The settings of the dice bot."""

from pydantic import BaseModel, ConfigDict, Field


class DiceSettings(BaseModel):
    """How much may be asked for at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most_dice: int = Field(default=100, ge=1, le=1000, description="Dice in one roll.")
    most_sides: int = Field(default=1000, ge=2, le=1_000_000, description="Sides of a die.")
