"""The example files serve as they are, once the tokens are put in."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from bridge.config import load, read_settings
from bridge.manual.settingspage import config_page
from bridge.running.roster import check_modules
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.settings.records import RoomSettings, Settings, keys_of
from tests.admin.commands import read_yaml, trestle
from tests.admin.documents import filled_in

TOP = Path(__file__).parent.parent.parent
EXAMPLE = TOP / "config.example.yaml"


def load_text(folder: Path, text: str) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file)


def test_the_example_is_refused_until_the_tokens_are_in(folder: Path) -> None:
    file = folder / "config.yaml"
    shutil.copy(EXAMPLE, file)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith("appservice.as_token: is a placeholder")


def test_the_example_loads_with_the_tokens_in_it_and_makes_a_registration(folder: Path) -> None:
    settings = load_text(folder, filled_in(EXAMPLE.read_text()))
    check_modules(settings)
    assert set(settings.modules) == {"libera", "dice"}
    made = trestle("registration", "-c", folder / "config.yaml")
    assert made.code == 0, made.said
    example = read_yaml(TOP / "registration.yaml.example")
    registration = read_yaml(folder / "registration.yaml")
    assert registration.keys() == example.keys()
    assert registration["namespaces"] == example["namespaces"]
    assert registration["protocols"] == example["protocols"]


def test_each_default_that_the_example_shows_is_the_default(folder: Path) -> None:
    # The old token has no default: it is there while tokens are changed, or not at all.
    defaults = {
        name
        for _, kind, _ in keys_of(Settings).values()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type)
        for name in keys_of(kind)
    }
    text = filled_in(EXAMPLE.read_text())
    shown, uncovered = re.subn(rf"(?m)^  # ((?:{'|'.join(defaults)}): \S+)$", r"  \1", text)
    assert uncovered >= 15
    assert load_text(folder, shown) == load_text(folder, text)


def test_the_reference_says_what_each_setting_takes_and_what_holds_without_it() -> None:
    rows = {
        (section, cells[1].strip(" `")): (cells[2].strip(), cells[3].strip())
        for section, text in re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^### |\Z)", config_page())
        for cells in (line.split("|") for line in text.splitlines() if line.startswith("| `"))
    }
    assert rows["appservice", "url"] == ("a URL", "from `listen`")
    assert [key for key, row in rows.items() if row[1] == "from `listen`"] == [
        ("appservice", "url")
    ]
    assert rows["web", "contact"] == rows["web", "policy"] == ("text", "none")
    assert rows["web", "homeservers"] == ("keys and values, {a: b}", "none")
    assert rows["fetching", "allow"] == ("a list, [a, b]", "none")
    assert rows["logging", "levels"] == ("keys and values, {a: b}", "none")
    assert rows["logging", "file"] == ("a path or `null`", "`null`")
    assert rows["limits", "tell_after"] == ("a number", "`60`")
    assert all(default for _, default in rows.values())


def test_the_rooms_that_the_example_shows_are_right_once_they_are_no_comment(folder: Path) -> None:
    text = filled_in(EXAMPLE.read_text())
    shown, uncovered = re.subn(r"(?m)^# (rooms:|  .*)$", r"\1", text)
    assert uncovered == 4
    settings = load_text(folder, shown)
    check_modules(settings)
    assert settings.rooms == (
        RoomSettings(room="#lobby:example.org", bridge={InstanceId("libera"): ("#lobby",)},
                     bots=(InstanceId("dice"),)),
    )  # fmt: skip


def test_nothing_in_the_registration_example_is_a_setting_of_somebody(folder: Path) -> None:
    example = read_yaml(TOP / "registration.yaml.example")
    assert {example[key] for key in ("as_token", "hs_token", "sender_localpart")} == {"CHANGE ME"}
    document = read_yaml(EXAMPLE)
    with pytest.raises(ConfigError):
        read_settings(document, folder=folder)
