"""Where the cache lies: as the environment says, else where the system keeps caches."""

from pathlib import Path

import pytest

from systems.pixel_llm.data.cache_folder import cache_folder
from systems.pixel_llm.errors import ConfigError


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PIXEL_LLM_CACHE": "/own", "XDG_CACHE_HOME": "/shared", "HOME": "/home/me"}, "/own"),
        ({"PIXEL_LLM_CACHE": "", "XDG_CACHE_HOME": "/shared", "HOME": "/home/me"}, "/shared/pixel-llm"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/pixel-llm"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/pixel-llm"),
        ({"HOME": "/home/me"}, "/home/me/.cache/pixel-llm"),
    ],
)
def test_the_environment_decides(monkeypatch, environment, expected):
    for name in ("PIXEL_LLM_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_a_relative_one_is_below_the_current_folder(monkeypatch, in_tmp_path):
    monkeypatch.setenv("PIXEL_LLM_CACHE", "here")
    assert cache_folder() == in_tmp_path / "here"


def test_without_a_home_the_variable_to_set_is_named(monkeypatch):
    for name in ("PIXEL_LLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="Set PIXEL_LLM_CACHE"):
        cache_folder()


def test_no_test_writes_into_the_users_home():
    assert cache_folder().parent.name.startswith("pixel-llm-tests-")
