import importlib.util
import re
import subprocess
import sysconfig
from pathlib import Path

from cifasr_serving.pb import speech_pb2

ROOT = Path(__file__).resolve().parents[2]
PB = ROOT / "serving/cifasr_serving/pb"


def without_versions(text):
    """Generated text without what depends on the version of the generator alone."""
    text = re.sub(r"\d+\.\d+\.\d+", "x.y.z", text)
    return re.sub(r"PUBLIC,\n\s+\d+,\n\s+\d+,\n\s+\d+,", "PUBLIC,", text)


def test_the_stubs_are_fresh(tmp_path):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    generate.generate(tmp_path)

    names = sorted(path.name for path in (tmp_path / "cifasr_serving/pb").iterdir())
    assert names == sorted(path.name for path in PB.glob("speech_pb2*"))
    for name in names:
        fresh = (tmp_path / "cifasr_serving/pb" / name).read_text()
        assert without_versions((PB / name).read_text()) == without_versions(fresh), "run: make proto"


def test_buf_lint_is_clean():
    buf = Path(sysconfig.get_path("scripts")) / "buf"

    run = subprocess.run([buf, "lint"], cwd=ROOT / "proto", capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stdout) == (0, "")


def test_the_package_is_that_of_the_directory():
    assert speech_pb2.DESCRIPTOR.package == "cifasr.speech.v1"
