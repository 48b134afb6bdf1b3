import re

import pytest
from pydantic import Field, ValidationError

from cifasr.config import Config, load_config, parse_config
from cifasr.errors import ConfigError


class Optim(Config):
    lr: float = Field(0.1, gt=0)
    name: str = "adam"


class Training(Config):
    optim: Optim = Optim()
    steps: int = 10
    sizes: tuple[int, ...] = ()


class Corpus(Config):
    folder: str


def test_without_a_file_everything_is_a_default():
    config = load_config(Training)

    assert config == Training()


def test_a_file_changes_only_what_it_names(tmp_path):
    (tmp_path / "a.toml").write_text("steps = 3\n[optim]\nlr = 1e-3\n")

    config = load_config(Training, tmp_path / "a.toml")

    assert config == Training(steps=3, optim=Optim(lr=1e-3))


def test_an_override_wins_over_the_file_and_the_last_one_over_those_before(tmp_path):
    (tmp_path / "a.toml").write_text("steps = 3\n[optim]\nlr = 1e-3\nname = 'sgd'\n")

    config = load_config(Training, tmp_path / "a.toml", ["optim.lr=0.5", "steps=4", "steps = 5"])

    assert config == Training(steps=5, optim=Optim(lr=0.5, name="sgd"))


@pytest.mark.parametrize(
    ("override", "want"),
    [
        ("optim.name=sgd", Training(optim=Optim(name="sgd"))),
        ("optim.name='a b'", Training(optim=Optim(name="a b"))),
        ("optim.name=a=b", Training(optim=Optim(name="a=b"))),
        ("optim.name=", Training(optim=Optim(name=""))),
        ("sizes=[1, 2]", Training(sizes=(1, 2))),
        ("optim={lr = 2.0}", Training(optim=Optim(lr=2.0))),
    ],
)
def test_the_value_of_an_override_is_toml_or_else_plain_text(override, want):
    assert load_config(Training, overrides=[override]) == want


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["step=3"], "unknown key step; did you mean 'steps'?"),
        (["optim.lrr=3"], "unknown key optim.lrr; did you mean 'lr'?"),
        (["optim.zzz=3"], "unknown key optim.zzz"),
        (["steps.more.zzz=3"], "config key steps: input should be a valid integer, got {'more': {'zzz': 3}}"),
        (["steps=many"], "got 'many'"),
        (["steps=1.5"], "config key steps: input should be a valid integer"),
        (["optim.lr=0"], "config key optim.lr: input should be greater than 0, got 0"),
        (["sizes=[1, 'x']"], "config key sizes.1: "),
        (["steps=1", "steps.more=2"], "override steps.more: steps is a value, not a table"),
        (["steps"], "override 'steps': wanted key=value"),
        (["=3"], "override '=3': wanted key=value"),
    ],
)
def test_what_does_not_fit_is_named(overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(Training, overrides=overrides)


def test_an_unknown_key_that_is_like_no_other_gets_no_suggestion():
    with pytest.raises(ConfigError) as caught:
        parse_config(Training, {"optim": {"zzz": 1}})

    assert str(caught.value) == "unknown key optim.zzz"


def test_every_error_is_in_the_message():
    with pytest.raises(ConfigError) as caught:
        parse_config(Training, {"step": 1, "steps": "x"})

    assert "unknown key step" in str(caught.value)
    assert "config key steps" in str(caught.value)


def test_a_key_without_a_default_has_to_be_there():
    with pytest.raises(ConfigError, match="config key folder: field required"):
        load_config(Corpus)


def test_a_configuration_cannot_be_changed():
    config = Training()

    with pytest.raises(ValidationError, match="frozen"):
        config.steps = 3


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe", b"steps = 1\nsteps = 2"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    (tmp_path / "bad.toml").write_bytes(content)

    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load_config(Training, tmp_path / "bad.toml")


def test_a_file_that_is_absent_or_a_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(Training, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="config file"):
        load_config(Training, tmp_path)
