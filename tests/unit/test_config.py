"""What kernel.json may say, and what it is told when it may not."""

from __future__ import annotations

import dataclasses

import pytest

from checkpoint_provisioner import config
from checkpoint_provisioner.config import Config, ConfigError, parse, parse_size

pytestmark = pytest.mark.unit


def test_an_empty_config_has_the_documented_defaults() -> None:
    assert parse({}) == Config(
        memory_limit=None,
        soft_limit="85%",
        cpu_limit=None,
        pids_limit=None,
        nice=None,
        checkpoint_interval=30.0,
        checkpoint_after_cell=True,
        restore="crash",
        store=None,
        keep=20,
        store_limit=None,
        exclude=(),
        include=(),
        shutdown_wait=30.0,
    )


def test_every_field_of_the_config_is_a_key_with_a_check() -> None:
    assert tuple(field.name for field in dataclasses.fields(Config)) == config.KEYS


def test_null_means_the_default() -> None:
    assert parse(dict.fromkeys(config.KEYS)) == Config()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * 1024**3),
        ("700M", 700 * 1024**2),
        ("1.5G", 3 * 512 * 1024**2),
        ("2T", 2 * 1024**4),
        ("64K", 65536),
        ("123456789", 123456789),
        (123456789, 123456789),
    ],
)
def test_sizes_are_powers_of_1024(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "8X", "8 G", "-1G", "50%", "1e9", True, "0x10", "٣G"])
def test_what_is_not_a_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_a_limit_is_kept_as_the_user_wrote_it() -> None:
    assert parse({"memory_limit": "700M"}).memory_limit == "700M"
    assert parse({"memory_limit": 8589934592}).memory_limit == "8589934592"
    assert parse({"memory_limit": "12.5%"}).memory_limit == "12.5%"


def test_settings_carry_what_the_kernel_needs() -> None:
    settings = parse(
        {
            "checkpoint_interval": 0,
            "checkpoint_after_cell": False,
            "restore": "always",
            "keep": 3,
            "store_limit": "2G",
            "exclude": ["secret_*"],
            "include": ["secret_santa"],
        }
    ).settings()
    assert settings.checkpoint_interval == 0
    assert settings.checkpoint_after_cell is False
    assert settings.restore == "always"
    assert settings.keep == 3
    assert settings.store_limit_bytes == 2 * 1024**3
    assert settings.exclude == ("secret_*",)
    assert settings.include == ("secret_santa",)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("memory_limit", "lots", '"512M"'),
        ("memory_limit", True, '"512M"'),
        ("memory_limit", 8.5, '"512M"'),
        ("memory_limit", [], '"512M"'),
        ("memory_limit", "0%", "more than 0"),
        ("memory_limit", "150%", "at most 100"),
        ("memory_limit", "8GB", 'did you mean "8G"'),
        ("memory_limit", "8g", 'did you mean "8G"'),
        ("memory_limit", "512 MiB", 'did you mean "512M"'),
        ("memory_limit", 8, 'did you mean "8G"'),
        ("memory_limit", -1, '"512M"'),
        ("memory_limit", "1M", "at least 64M"),
        ("soft_limit", "101%", "at most 100"),
        ("soft_limit", 0, "more than 0"),
        ("soft_limit", 0.85, "a percentage of memory_limit"),
        ("checkpoint_interval", "30", "without quotes"),
        ("checkpoint_interval", -1, "not negative"),
        ("checkpoint_interval", float("inf"), "not infinite"),
        ("checkpoint_interval", float("nan"), "not infinite"),
        ("checkpoint_interval", True, "a number of seconds"),
        ("checkpoint_after_cell", "true", "without quotes"),
        ("checkpoint_after_cell", 1, "true or false"),
        ("restore", "sometimes", '"never"'),
        ("restore", ["crash"], '"never"'),
        ("store", "s3://bucket/x", "not supported yet"),
        ("store", "checkpoints", "absolute path"),
        ("store", "", "absolute path"),
        ("store", 7, "absolute path"),
        ("keep", 0, "at least 1"),
        ("keep", True, "at least 1"),
        ("keep", 2.0, "at least 1"),
        ("keep", "20", "without quotes"),
        ("store_limit", "20%", '"8G"'),
        ("store_limit", 0, "more than 0"),
        ("shutdown_wait", "30", "without quotes"),
        ("shutdown_wait", -1, "not negative"),
        ("exclude", "secret_*", 'did you mean ["secret_*"]'),
        ("exclude", [1], "list of glob patterns"),
        ("include", "a*", 'did you mean ["a*"]'),
        ("exclude", {"a": 1}, "list of glob patterns"),
    ],
)
def test_a_bad_value_is_refused_naming_key_value_and_what_is_allowed(
    key: str, value: object, allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({key: value})
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert config._shown(value) in message
    assert allowed in message


def test_a_quoted_number_looks_different_from_a_number_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"checkpoint_interval": "30"})
    assert str(caught.value) == (
        'checkpoint_interval: "30" is not allowed; checkpoint_interval is a number of seconds, '
        "0 for off, without quotes"
    )


def test_a_misspelt_key_is_refused_with_the_near_match_and_all_known_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"memory_limits": "8G"})
    message = str(caught.value)
    assert "did you mean 'memory_limit'?" in message
    for key in config.KEYS:
        assert key in message


def test_an_unknown_key_without_a_near_match_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"xyz: there is no such key\. Known keys: memory_limit,"):
        parse({"xyz": 1})


def test_a_soft_limit_above_the_cap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'soft_limit: "2G" .* at most memory_limit.*"1G"'):
        parse({"memory_limit": "1G", "soft_limit": "2G"})
    assert parse({"memory_limit": "50%", "soft_limit": "2G"}).soft_limit == "2G"


def test_a_store_in_the_home_directory_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse({"store": "~/checkpoints"}).store == "/home/ada/checkpoints"


def test_the_limits_beside_memorys_are_numbers() -> None:
    found = parse({"cpu_limit": 2, "pids_limit": 32, "nice": 0})
    assert (found.cpu_limit, found.pids_limit, found.nice) == (2.0, 32, 0)
    assert isinstance(found.cpu_limit, float)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cpu_limit", "1.5", "without quotes"),
        ("cpu_limit", "150%", "a number of cores such as 1.5"),
        ("cpu_limit", 0, "at least 0.1"),
        ("cpu_limit", float("inf"), "at least 0.1"),
        ("cpu_limit", True, "a number of cores"),
        ("pids_limit", 8, "at least 32"),
        ("pids_limit", 100.0, "a whole number"),
        ("pids_limit", "100", "without quotes"),
        ("nice", 20, "from 0 to 19"),
        ("nice", -1, "from 0 to 19"),
        ("nice", False, "a whole number"),
    ],
)
def test_a_limit_that_is_no_such_number_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: ") as caught:
        parse({key: value})
    assert said in str(caught.value)
