"""minigen.data: downloads from a server on this machine, and the cache. Nothing here leaves 127.0.0.1."""

import errno
import gzip
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from minigen import data

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
GOOD = {
    IMAGES: gzip.compress(bytes.fromhex("00000803 00000005 0000001c 0000001c") + PIXELS.tobytes()),
    LABELS: gzip.compress(bytes.fromhex("00000801 00000005") + bytes([3, 0, 9, 9, 1])),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINIGEN_DATA", raising=False)
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Server(ThreadingHTTPServer):
    """Serves GOOD; the first part of the path says how: whole, cut, short, open-ended, html or missing."""

    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        how, file = self.path.strip("/").split("/")
        body = GOOD[file]
        half = body[: len(body) // 2]
        if how == "missing":
            self.send_error(404)
            return
        body, length = {
            "whole": (body, len(body)),
            "cut": (half, len(body)),  # the connection closes before the promised end
            "short": (body, len(half)),  # the header promises less than there is
            "open": (half, None),  # no length, so only the hash can tell
            "html": (b"<html>sign in</html>", 20),
        }[how]
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def mirrors(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes MNIST come from mirrors on the server, one for each way of serving that is named."""

    def use(*hows: str) -> None:
        addresses = tuple(f"http://127.0.0.1:{server.server_port}/{how}/" for how in hows)
        sha256 = {file: hashlib.sha256(content).hexdigest() for file, content in GOOD.items()}
        monkeypatch.setitem(data.SOURCES, "mnist", replace(data.SOURCES["mnist"], mirrors=addresses, sha256=sha256))

    return use


def cached() -> list[str]:
    return sorted(path.name for path in Path(os.environ["MINIGEN_CACHE"]).rglob("*") if path.is_file())


def test_download_is_cached_and_used_again(
    server: Server, mirrors: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    mirrors("whole")
    images = data.mnist()
    assert np.array_equal(images.images.numpy(), PIXELS[:, None])
    assert images.labels.tolist() == [3, 0, 9, 9, 1]
    assert server.asked == [f"/whole/{IMAGES}", f"/whole/{LABELS}"]
    assert "100%" in capsys.readouterr().err  # the progress bar
    assert len(data.mnist()) == len(data.mnist(download=False)) == 5
    assert len(server.asked) == 2
    assert cached() == [IMAGES, LABELS]


@pytest.mark.parametrize("how", ["cut", "short", "open", "html", "missing"])
def test_failed_download_leaves_nothing_and_the_next_one_works(
    how: str, mirrors: Callable[..., None], server: Server
) -> None:
    mirrors(how)
    with pytest.raises(ConnectionError, match=rf"{IMAGES} of mnist.*root= or MINIGEN_DATA(.|\n)*/{how}/{IMAGES}: .+"):
        data.mnist()
    assert cached() == []
    mirrors(how, "whole")
    assert len(data.mnist()) == 5
    assert server.asked[1:3] == [f"/{how}/{IMAGES}", f"/whole/{IMAGES}"]
    assert cached() == [IMAGES, LABELS]


def test_every_mirror_is_listed_with_its_reason(mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors("missing", "html")
    served = data.SOURCES["mnist"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:  # a port that nobody listens on from here on
        port = closed.server_port
    unreachable = f"http://127.0.0.1:{port}/"
    every = (*served.mirrors, unreachable)
    monkeypatch.setitem(data.SOURCES, "mnist", replace(served, mirrors=every))
    with pytest.raises(ConnectionError) as caught:
        data.mnist()
    listed = str(caught.value).splitlines()[1:]
    assert [line.strip().startswith(mirror) for line, mirror in zip(listed, every, strict=True)] == [True] * 3
    assert "404" in listed[0]
    assert "does not match the known hash" in listed[1]
    assert "refused" in listed[2]


def test_file_that_rotted_in_the_cache_is_fetched_again(server: Server, mirrors: Callable[..., None]) -> None:
    mirrors("whole")
    data.mnist()
    file = Path(os.environ["MINIGEN_CACHE"]) / "mnist" / IMAGES
    file.write_bytes(GOOD[IMAGES][:-1] + b"!")
    with pytest.raises(FileNotFoundError, match=rf"no intact copy of {IMAGES} in the cache .*download=True"):
        data.mnist(download=False)
    mirrors("cut")
    with pytest.raises(ConnectionError, match=rf"{IMAGES}: its hash is not the published one"):
        data.mnist()
    mirrors("whole")
    assert len(data.mnist()) == 5
    assert file.read_bytes() == GOOD[IMAGES]
    assert server.asked[-1] == f"/whole/{IMAGES}"


def test_without_download_nothing_is_asked(server: Server, mirrors: Callable[..., None]) -> None:
    mirrors("whole")
    with pytest.raises(FileNotFoundError, match=rf"no intact copy of {IMAGES}"):
        data.mnist(download=False)
    assert server.asked == []


def test_cache_that_cannot_be_written(
    mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pooch

    mirrors("whole")
    advice = rf"cannot write .*{IMAGES} .*MINIGEN_CACHE to another folder"
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=advice):
        data.mnist()
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "new"))
    for number in (errno.EACCES, errno.EROFS, errno.ENOSPC):  # as root, permissions cannot be taken away

        def refuse(*args: object, number: int = number, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
        with pytest.raises(OSError, match=advice) as caught:
            data.mnist()
        assert os.strerror(number) in str(caught.value)
        assert cached() == []


def test_default_cache_is_the_users(
    mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pooch

    monkeypatch.setenv("MINIGEN_CACHE", "")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "os" / project)
    mirrors("whole")
    data.mnist()
    assert (tmp_path / "os" / "minigen" / "mnist" / IMAGES).is_file()


def test_published_sources_are_complete() -> None:
    hashes = [digest for entry in data.SOURCES.values() for digest in entry.sha256.values()]
    assert len(set(hashes)) == 9
    assert all(len(digest) == 64 and int(digest, 16) for digest in hashes)
    for entry in data.SOURCES.values():
        assert len(entry.classes) == len(set(entry.classes)) == 10
        assert len(set(entry.mirrors)) >= 2
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in entry.mirrors)
