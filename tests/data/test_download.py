import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from cifasr.data import download
from cifasr.data.download import download_librispeech
from cifasr.data.librispeech import prepare_librispeech
from cifasr.errors import DataError


def official_archive(split="dev-clean", escape=False):
    """A small archive of the official layout."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    audio = io.BytesIO()
    soundfile.write(audio, noise, 16_000, format="FLAC")
    chapter = f"LibriSpeech/{split}/84/121123"
    files = {
        "LibriSpeech/SPEAKERS.TXT": b"; speakers\n",
        f"{chapter}/84-121123.trans.txt": b"84-121123-0000 GO\n",
        f"{chapter}/84-121123-0000.flac": audio.getvalue(),
    }
    if escape:
        files["../outside.txt"] = b"!"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


class Mirror:
    """A server of one archive: `cuts` are the lengths after which its answers break off."""

    def __init__(self, archive, *, cuts=(), ranges=True):
        self.archive, self.cuts, self.ranges = archive, list(cuts), ranges
        self.requests = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self.server.server_port}/resources/12"

    def answer(self, handler):
        wanted = handler.headers["Range"]
        self.requests.append(wanted)
        if handler.path != "/resources/12/dev-clean.tar.gz":
            handler.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if start >= len(self.archive):
            handler.send_error(416)
            return
        body = self.archive[start:]
        handler.send_response(206 if wanted and self.ranges else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def archive(monkeypatch):
    return expect(official_archive(), monkeypatch)


def expect(content, monkeypatch):
    monkeypatch.setitem(download.ARCHIVE_MD5, "dev-clean", hashlib.md5(content).hexdigest())
    return content


def test_an_archive_is_fetched_checked_and_laid_out(archive, tmp_path):
    with Mirror(archive) as mirror:
        corpus = download_librispeech(tmp_path / "new", ["dev-clean"], base_url=mirror.url)

    assert corpus == tmp_path / "new" / "LibriSpeech"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["LibriSpeech"]
    assert sorted(path.name for path in corpus.iterdir()) == ["SPEAKERS.TXT", "dev-clean"]
    (report,) = prepare_librispeech(tmp_path / "new", tmp_path / "cuts", verify=True)
    assert (report.split, report.num_utterances) == ("dev-clean", 1)


def test_a_broken_connection_is_taken_up_where_it_broke(archive, tmp_path):
    with Mirror(archive, cuts=[1_000, 2_000]) as mirror:
        download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url)

    assert mirror.requests == [None, "bytes=1000-", "bytes=3000-"]
    assert (tmp_path / "LibriSpeech" / "dev-clean").is_dir()


def test_a_dead_connection_keeps_the_part_for_another_call(archive, tmp_path):
    with Mirror(archive, cuts=[1_000, 0]) as mirror:
        with pytest.raises(DataError, match=r"broken off at 1000 bytes.*run again to go on"):
            download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url)
        assert (tmp_path / "dev-clean.tar.gz.part").read_bytes() == archive[:1_000]

        download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url)

    assert mirror.requests == [None, "bytes=1000-", "bytes=1000-"]
    assert (tmp_path / "LibriSpeech" / "dev-clean").is_dir()


def test_a_server_without_ranges_starts_again(archive, tmp_path):
    (tmp_path / "dev-clean.tar.gz.part").write_bytes(b"x" * 500)

    with Mirror(archive, ranges=False) as mirror:
        download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url)

    assert mirror.requests == ["bytes=500-"]
    assert (tmp_path / "LibriSpeech" / "dev-clean").is_dir()


def test_a_part_that_is_already_whole_is_only_checked(archive, tmp_path):
    (tmp_path / "dev-clean.tar.gz.part").write_bytes(archive)

    with Mirror(archive) as mirror:
        download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url)

    assert (tmp_path / "LibriSpeech" / "dev-clean").is_dir()


@pytest.mark.parametrize("part", [b"", b"a part of something else"])
def test_a_wrong_checksum_is_refused_and_the_part_removed(archive, tmp_path, part):
    if part:
        (tmp_path / "dev-clean.tar.gz.part").write_bytes(part)

    with Mirror(archive if part else archive + b"!") as mirror, pytest.raises(DataError, match="wanted md5"):
        download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url)

    assert list(tmp_path.iterdir()) == [tmp_path / "LibriSpeech"]
    assert list((tmp_path / "LibriSpeech").iterdir()) == []


def test_an_archive_that_is_there_is_checked_and_kept(archive, tmp_path):
    (tmp_path / "dev-clean.tar.gz").write_bytes(archive)

    download_librispeech(tmp_path, ["dev-clean"], base_url="http://127.0.0.1:9/nobody")

    assert (tmp_path / "LibriSpeech" / "dev-clean").is_dir()
    assert (tmp_path / "dev-clean.tar.gz").exists()
    (tmp_path / "test-clean.tar.gz").write_bytes(archive)
    with pytest.raises(DataError, match=r"test-clean\.tar\.gz: not the official archive"):
        download_librispeech(tmp_path, ["test-clean"])


def test_a_split_that_is_there_is_not_fetched_again(tmp_path):
    (tmp_path / "LibriSpeech" / "dev-clean").mkdir(parents=True)

    download_librispeech(tmp_path, ["dev-clean"], base_url="http://127.0.0.1:9/nobody")


def test_what_the_server_lacks_and_a_server_that_is_absent_are_named(archive, tmp_path):
    with Mirror(archive) as mirror, pytest.raises(DataError, match=r"test-clean\.tar\.gz: the server answers 404"):
        download_librispeech(tmp_path, ["test-clean"], base_url=mirror.url)
    with pytest.raises(DataError, match="refused"):
        download_librispeech(tmp_path, ["test-clean"], base_url=mirror.url)


def test_only_official_splits_can_be_fetched(tmp_path):
    with pytest.raises(DataError, match="no official split dev; there are dev-clean"):
        download_librispeech(tmp_path, ["dev"])
    with pytest.raises(DataError, match="wanted http"):
        download_librispeech(tmp_path, ["dev-clean"], base_url="mirror.example/12")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (official_archive(escape=True), "outside"),
        (official_archive(split="dev-other"), "no folder LibriSpeech/dev-clean"),
        (official_archive()[:5_000], "cannot be unpacked"),
        (b"not an archive", "cannot be unpacked"),
    ],
)
def test_a_bad_archive_leaves_nothing_unpacked(tmp_path, monkeypatch, content, message):
    expect(content, monkeypatch)

    with Mirror(content) as mirror, pytest.raises(DataError, match=message):
        download_librispeech(tmp_path / "dest", ["dev-clean"], base_url=mirror.url)

    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["LibriSpeech", "dev-clean.tar.gz"]
    assert list((tmp_path / "dest" / "LibriSpeech").iterdir()) == []


def test_progress_tells_bytes_and_the_total(archive, tmp_path):
    calls = []

    with Mirror(archive, cuts=[1_000]) as mirror:
        download_librispeech(tmp_path, ["dev-clean"], base_url=mirror.url, progress=lambda *call: calls.append(call))

    assert calls[:2] == [
        ("fetch dev-clean", 1_000, len(archive)),
        ("fetch dev-clean", len(archive), len(archive)),
    ]
    assert {name for name, _, _ in calls[2:]} == {"unpack dev-clean"}


def test_the_checksums_are_of_the_seven_official_archives():
    assert len(download.ARCHIVE_MD5) == 7
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in download.ARCHIVE_MD5.values())
