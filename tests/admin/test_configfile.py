"""The database's URL is changed in the admin's file, and nothing else is."""

import stat
from pathlib import Path

import pytest

from bridge.sdk.errors import ConfigError
from bridge.settings.configfile import with_database, write_config
from bridge.upgrade.files import replace_text
from tests.admin.commands import init, read_yaml, run_program, trestle

URL = "postgresql://a:b%23c@db.example/trestle?sslmode=require"
QUOTED = f'"{URL}"'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "# mine\na: 1\ndatabase:   # here\n    url:   embedded   # ours\nb: [1,2]  # odd\n",
            f"# mine\na: 1\ndatabase:   # here\n    url: {QUOTED}   # ours\nb: [1,2]  # odd\n",
        ),
        ("database: {url: embedded}\n", f"database: {{url: {QUOTED}}}\n"),
        ("database: {}\n# end", f"database: {{url: {QUOTED}}}\n# end"),
        ("database: # later\na: 1\n", f"database: {{url: {QUOTED}}} # later\na: 1\n"),
        ("database:\r\na: 1\r\n", f"database: {{url: {QUOTED}}}\r\na: 1\r\n"),
        ("a: &x {b: 1}\nc: *x", f"a: &x {{b: 1}}\nc: *x\ndatabase:\n  url: {QUOTED}\n"),
        ("database:\n  url_file: u # there\n", f"database:\n  url: {QUOTED} # there\n"),
        ("database:\n  url: >-\n    embedded\na: 1\n", f"database:\n  url: {QUOTED}\na: 1\n"),
    ],
)
def test_only_the_url_is_another(before: str, after: str) -> None:
    assert with_database(before, URL) == after


def test_the_file_of_an_url_takes_its_place() -> None:
    assert with_database("database:\n  url: embedded # ours\n", "/x/url", key="url_file") == (
        'database:\n  url_file: "/x/url" # ours\n'
    )


def test_a_password_goes_into_no_file_that_all_can_read_or_that_has_it_elsewhere(
    folder: Path,
) -> None:
    assert init(folder).code == 0
    config, file = folder / "config.yaml", folder / "old"
    tokens = read_yaml(config)["appservice"]
    text = config.read_text()
    for name in ("as_token", "hs_token"):
        (folder / name).write_text(tokens[name])
        (folder / name).chmod(0o600)
        text = text.replace(f"{name}: {tokens[name]}", f"{name}_file: {name}")
    file.write_text("embedded")
    file.chmod(0o600)
    for mode, keep, words in (
        (0o644, "url: embedded", "can read"),
        (0o600, "url_file: old", "keeps the URL in a file"),
    ):
        config.write_text(text.replace("url: embedded", keep))
        config.chmod(mode)
        refused = trestle("database", "move", "--to-file", "-", "-c", config, answers=f"{URL}\n")
        assert (refused.code, words in refused.errors) == (2, True), refused.said
        assert "name the file with --to-file" in refused.errors
        assert "b%23c" not in config.read_text() + refused.said
    both = trestle("database", "move", "-c", config)
    assert "either --to URL or --to-file FILE" in both.errors


def test_a_file_that_is_not_utf_8_is_refused_in_a_sentence(tmp_path: Path) -> None:
    assert init(tmp_path).code == 0
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text(), encoding="utf-16")
    refused = trestle("database", "move", "--to", URL, "-c", config)
    assert (refused.code, refused.errors) == (
        2, f"trestle: {config} is not UTF-8 text; save it as that\n",
    )  # fmt: skip


def test_back_to_the_embedded_one() -> None:
    assert with_database(f"database:\n  url: {QUOTED}\n", "embedded") == (
        "database:\n  url: embedded\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "x: &db {url: embedded}\ndatabase: *db\n",
        "x: &u embedded\ndatabase: {url: *u}\n",
        "database: &db {url: embedded}\nother: *db\n",
        "database: {url: a, owner_url: b}\n",
        "- a list\n",
        "a: [\n",
    ],
)
def test_what_a_program_cannot_change_safely_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ConfigError, match="a program cannot safely change"):
        with_database(text, URL)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TRESTLE_DATABASE_URL", "embedded"), ("TRESTLE_DATABASE_OWNER_URL", "postgresql://o@h/x")],
)
def test_a_url_from_the_environment_is_named(variable: str, value: str, tmp_path: Path) -> None:
    assert init(tmp_path).code == 0
    config = tmp_path / "config.yaml"
    refused = run_program("database", "move", "--to", URL, "-c", config, env={variable: value})
    assert refused.code == 2
    assert f"comes from the environment variable {variable}; unset it" in refused.errors


def test_the_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    assert init(tmp_path).code == 0
    real, link = tmp_path / "config.yaml", tmp_path / "link.yaml"
    real.chmod(0o640)
    link.symlink_to(real)
    write_config(link, with_database(real.read_text(), URL))
    assert read_yaml(real)["database"] == {"url": URL}
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.yaml", "link.yaml", "registration.yaml", "state",
    ]  # fmt: skip


def test_a_file_of_the_operators_beside_it_is_left_alone(tmp_path: Path) -> None:
    config, theirs = tmp_path / "config.yaml", tmp_path / "config.yaml.new"
    config.write_text("one")
    theirs.write_text("what the operator means to try next")
    write_config(config, "two")
    copy = replace_text(config, b"three", why="test")
    assert (config.read_text(), copy.read_text()) == ("three", "two")
    assert theirs.read_text() == "what the operator means to try next"
    assert sorted(tmp_path.iterdir()) == sorted([config, theirs, copy])
