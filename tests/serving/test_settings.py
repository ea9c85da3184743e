"""How the service is configured, and what it refuses to be."""

import pytest
from typer.testing import CliRunner

from ctxshaper import InvalidInputError, RecipeError
from ctxshaper.commands.app import app
from ctxshaper.serving.app import create_app
from ctxshaper.serving.settings import Settings


def test_it_listens_on_this_machine_alone_unless_told_otherwise():
    assert Settings.load().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])  # noqa: S104
def test_others_are_let_in_with_a_key_or_by_so_many_words(host):
    with pytest.raises(InvalidInputError, match="CTXSHAPER_API_KEY"):
        Settings.load(host=host)
    assert Settings.load(host=host, api_key="k").host == host
    assert Settings.load(host=host, allow_without_key=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "[::1]", "localhost"])
def test_this_machine_needs_no_key(host):
    assert Settings.load(host=host).api_key is None


def test_a_file_and_the_environment_which_outranks_it(tmp_path, monkeypatch):
    file = tmp_path / "serve.toml"
    file.write_text('port = 9000\nrecipe = "mine"\nqueue = 3\n[recipes]\nmine = "fast"\n', encoding="utf-8")
    monkeypatch.setenv("CTXSHAPER_QUEUE", "7")
    monkeypatch.setenv("CTXSHAPER_API_KEY", "secret-1")
    found = Settings.load(file)
    assert (found.port, found.queue, found.recipes) == (9000, 7, {"mine": "fast"})
    assert found.api_key.get_secret_value() == "secret-1"
    assert "secret-1" not in repr(found)
    assert Settings.load(file, port=1).port == 1
    monkeypatch.setenv("CTXSHAPER_RECIPES", '{"mine": "qa"}')
    assert Settings.load(file).recipes["mine"] == "qa"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour = 3", "colour"),
        ("port = 70000", "port"),
        ("timeout = 0", "timeout"),
        ('recipe = "mine"', "recipes are fast, qa"),
        ('api_key = " "', "api_key is empty"),
        ('budget = "much"', "budget"),
        ("port = ", "not a settings file"),
    ],
)
def test_what_is_wrong_is_said_without_the_key(tmp_path, monkeypatch, text, told):
    file = tmp_path / "serve.toml"
    file.write_text(text, encoding="utf-8")
    if "api_key" not in text:
        monkeypatch.setenv("CTXSHAPER_API_KEY", "secret-1")
    with pytest.raises(InvalidInputError, match=told) as error:
        Settings.load(file)
    assert "secret-1" not in str(error.value)


def test_a_recipe_that_there_is_not_stops_the_start():
    with pytest.raises(RecipeError, match="there is no recipe 'nothing'"):
        create_app(Settings.load(recipes={"a": "nothing"}, recipe="a"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--host", "0.0.0.0"], "API key|api_key"), (["--config", "missing.toml"], "no settings file")],  # noqa: S104
)
def test_the_command_says_it_in_one_line(arguments, told):
    import re

    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 2
    assert re.search(told, done.stderr)
    assert "Traceback" not in done.output
