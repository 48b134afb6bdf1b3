"""Write the stubs of the wire: ``python proto/generate.py``; a test fails while they are stale."""

import sys
import sysconfig
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "cifasr_serving/pb"
PROTO_DIR = ROOT / "proto/cifasr/speech/v1"


def generate(out_dir: Path) -> None:
    """Write ``cifasr_serving/pb/speech_pb2*`` below a directory.

    The directory of the .proto is mapped to the directory of the package, so that the stubs import each other as
    ``cifasr_serving.pb`` without a change to any path.

    Args:
        out_dir: Existing directory; ``serving`` in the repository.

    Raises:
        RuntimeError: protoc refused the file; it has said why on stderr.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    arguments = [
        "protoc",
        f"-I{PACKAGE}={PROTO_DIR}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={out_dir}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        f"{PACKAGE}/speech.proto",
    ]
    code = protoc.main(arguments)
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")


if __name__ == "__main__":
    generate(ROOT / "serving")
    sys.stdout.write(f"wrote {PACKAGE}/speech_pb2* below {ROOT / 'serving'}\n")
