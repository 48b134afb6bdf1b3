import pytest

from cifasr import processor
from cifasr.processor import cpu_flags


@pytest.fixture(autouse=True)
def _forgetful():
    cpu_flags.cache_clear()
    yield
    cpu_flags.cache_clear()


def test_the_flags_are_those_of_the_first_processor(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\nprocessor\t: 1\nflags\t\t: fpu\n")
    monkeypatch.setattr(processor, "Path", lambda _: cpuinfo)

    assert {"fpu", "avx512_bf16"} <= cpu_flags()


def test_a_system_that_tells_nothing_has_no_flags(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "Path", lambda _: tmp_path / "absent")

    assert cpu_flags() == frozenset()
