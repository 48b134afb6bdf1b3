"""The official archives of LibriSpeech: fetched, resumed where they broke off, checked and laid out."""

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from cifasr.errors import DataError

OPENSLR_URL = "https://www.openslr.org/resources/12"

ARCHIVE_MD5 = {
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
"""MD5 of each official archive, as its publisher lists them in ``md5sum.txt`` beside the archives."""

Progress = Callable[[str, int, int | None], None]
"""Called with what is done, the bytes so far, and the bytes in all where the server says."""

_BLOCK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 60.0


def download_librispeech(
    dest: Path, splits: list[str], *, base_url: str = OPENSLR_URL, progress: Progress | None = None
) -> Path:
    """Fetch official splits to ``dest/LibriSpeech/SPLIT``; those already there are left alone.

    A connection that breaks is taken up again where it broke, for as long as each attempt brings something;
    then, the part is kept, and another call goes on from there. An archive is unpacked only when its checksum
    is right, and its split appears whole or not at all. What was fetched is deleted afterwards; an archive
    that was in ``dest`` already is used and kept.

    Args:
        dest: Folder for the archives and the ``LibriSpeech`` folder; made where absent. It needs room for
            twice the largest split.
        splits: Official names, the keys of `ARCHIVE_MD5`.
        base_url: Folder of the archives on the official server or on a mirror, http or https.
        progress: Called after each block, and after each file unpacked.

    Returns:
        The ``LibriSpeech`` folder.

    Raises:
        DataError: A split is not an official one, an archive cannot be fetched, or it is not the official one.
    """
    if not base_url.startswith(("http://", "https://")):
        raise DataError(f"cannot fetch from {base_url!r}, wanted http:// or https://")
    unknown = [split for split in splits if split not in ARCHIVE_MD5]
    if unknown:
        raise DataError(f"no official split {', '.join(unknown)}; there are {', '.join(ARCHIVE_MD5)}")
    corpus = dest / "LibriSpeech"
    corpus.mkdir(parents=True, exist_ok=True)
    for split in splits:
        if (corpus / split).is_dir():
            continue
        archive = dest / f"{split}.tar.gz"
        if archive.exists():
            _check_md5(archive, ARCHIVE_MD5[split])
            _extract(archive, corpus, split, progress)
        else:
            _fetch(f"{base_url.rstrip('/')}/{archive.name}", archive, ARCHIVE_MD5[split], progress)
            _extract(archive, corpus, split, progress)
            archive.unlink()
    return corpus


def _check_md5(path: Path, md5: str) -> None:
    with path.open("rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise DataError(f"{path}: not the official archive: wanted md5 {md5}, got {got}")


def _fetch(url: str, archive: Path, md5: str, progress: Progress | None) -> None:
    part = archive.with_name(f"{archive.name}.part")
    broken: Exception | None = None
    while True:
        had_bytes = part.stat().st_size if part.exists() else 0
        try:
            if _fetch_rest(url, part, progress):
                break
        except urllib.error.HTTPError as error:
            raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            broken = error
        has_bytes = part.stat().st_size if part.exists() else 0
        if has_bytes <= had_bytes:
            reason = broken or "the server ends too early"
            raise DataError(f"{url}: broken off at {has_bytes} bytes: {reason}; run again to go on") from broken
    try:
        _check_md5(part, md5)
    except DataError as error:
        part.unlink()
        raise DataError(f"{error}; it came from {url} and was deleted, run again") from error
    part.replace(archive)


def _fetch_rest(url: str, part: Path, progress: Progress | None) -> bool:
    """Append what is absent from ``part`` and say whether it is complete then."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        return True  # nothing is left to send; the checksum tells whether that is right
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server sends everything again
        length = response.headers["Content-Length"]
        total = None if length is None else start + int(length)
        with part.open("ab" if start else "wb") as file:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                if progress is not None:
                    progress(f"fetch {part.name.removesuffix('.tar.gz.part')}", file.tell(), total)
            return total is None or file.tell() >= total


def _extract(archive: Path, corpus: Path, split: str, progress: Progress | None) -> None:
    unpacked = corpus.with_name(f".unpack-{split}")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
            for member in tar:
                tar.extract(member, unpacked, filter="data")
                if progress is not None:
                    progress(f"unpack {split}", file.tell(), archive.stat().st_size)
        if not (unpacked / "LibriSpeech" / split).is_dir():
            raise DataError(f"{archive}: no folder LibriSpeech/{split} in it")
        for path in sorted((unpacked / "LibriSpeech").iterdir()):
            if not (corpus / path.name).exists():
                path.replace(corpus / path.name)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
