"""Downloads from a server in this process, and archives that would write elsewhere."""

import gzip
import hashlib
import http.server
import io
import os
import re
import socket
import stat
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from escapevelocity.errors import UserError
from escapevelocity.metric_learning import datasets, download
from escapevelocity.metric_learning.archives import unpack
from escapevelocity.metric_learning.config import DataConfig
from escapevelocity.metric_learning.download import GONE, SOURCES, Source, download_files, fetch
from escapevelocity.metric_learning.splits import load_split

CONTENT = bytes(range(256)) * 10_000  # 2.56 MB: more than one piece


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with what `served` has for a path; a path that ends in `short` breaks off halfway."""

    served: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        body = self.served.get(self.path.removesuffix("short"))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path.endswith("short") else body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Serve files on a free port of this machine; returns the address that begins theirs."""
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def start(**served):
        Server.served = {f"/{name.replace('__', '.')}": body for name, body in served.items()}
        Server.asked = []
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    server.shutdown()
    thread.join()
    server.server_close()


def source(url, content=CONTENT, unpacked=None):
    return Source(url.rsplit("/", 1)[1], url, len(content), hashlib.sha256(content).hexdigest(), unpacked)


def names(folder):
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_a_file_arrives_whole_and_the_bar_is_told_of_every_byte(serve, tmp_path):
    told = []
    path = fetch(source(serve(file__gz=CONTENT) + "file.gz"), tmp_path / "a" / "b", told.append)
    assert (path.read_bytes(), path.name, sum(told)) == (CONTENT, "file.gz", len(CONTENT))
    assert len(told) > 1
    assert names(path.parent) == ["file.gz"]


def test_a_file_that_is_there_and_whole_is_not_fetched_again_and_a_damaged_one_is(serve, tmp_path):
    wanted = source(serve(file__gz=CONTENT) + "file.gz")
    (tmp_path / "file.gz").write_bytes(CONTENT[:-1])
    fetch(wanted, tmp_path)
    fetch(wanted, tmp_path)
    assert Server.asked == ["/file.gz"]
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_a_wrong_checksum_is_told_with_both_hashes_and_the_file_is_removed(serve, tmp_path):
    wanted = source(serve(file__gz=CONTENT) + "file.gz")._replace(sha256="0123456789abcdef" * 4)
    found = hashlib.sha256(CONTENT).hexdigest()[:12]
    with pytest.raises(
        UserError, match=f"has the sha256 {found}…, not 0123456789ab…; it was removed"
    ) as caught:
        fetch(wanted, tmp_path)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_without_a_network_it_is_told_where_the_file_may_be_put(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # Nobody listens on it from here on.
    said = rf"file\.gz: could not be reached \(.*refused.*\); check the network, or put file\.gz into {tmp_path}/x"
    with pytest.raises(UserError, match=said):
        fetch(source(f"http://127.0.0.1:{port}/file.gz"), tmp_path / "x")
    assert names(tmp_path / "x") == []


def test_an_address_that_nobody_knows_is_no_network(tmp_path, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"could not be reached \(.*not known\); check the network"):
        fetch(source("http://nowhere.invalid/file.gz"), tmp_path)


def test_a_body_that_breaks_off_is_told_and_removed(serve, tmp_path):
    wanted = source(serve(file__gz=CONTENT) + "file.gzshort")
    with pytest.raises(UserError, match=r"broke off after 1,[0-9,]+ bytes \(.*\); try again, or put"):
        fetch(wanted, tmp_path)
    assert names(tmp_path) == []


def test_an_answer_of_404_is_told(serve, tmp_path):
    with pytest.raises(UserError, match=r"/other\.gz: answered 404 Not Found; put other\.gz into"):
        fetch(source(serve(file__gz=CONTENT) + "other.gz"), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(serve, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        UserError, match=r"could not be written \(.*\); free space or name another --data-dir"
    ):
        fetch(source(serve(file__gz=CONTENT) + "file.gz"), tmp_path / "file" / "inner")


def tar_of(entries):
    """A gzipped tar file; an entry's content may be bytes, or a type such as tarfile.SYMTYPE."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, int | str) or len(content) == 1:
                member.type, member.linkname = content, "../../elsewhere"
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_an_archive_becomes_its_folder(pack, tmp_path):
    archive = tmp_path / "set.archive"
    archive.write_bytes(pack({"set/a/1.jpg": b"one", "set/2.txt": b"second", "readme.txt": b"beside"}))
    told = []
    unpack(archive, tmp_path / "set", told.append)
    files = {str(p.relative_to(tmp_path / "set")): p.read_bytes() for p in (tmp_path / "set").rglob("*.*")}
    assert files == {"a/1.jpg": b"one", "2.txt": b"second"}
    assert sum(told) == len(b"one" + b"second" + b"beside")
    assert names(tmp_path) == ["set", "set.archive"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize(
    "name", ["../evil.txt", "set/../../evil.txt", "/tmp/evil.txt", "set\\..\\evil.txt", "C:/evil"]
)
def test_an_archive_cannot_write_outside_of_its_folder(pack, name, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "set.archive").write_bytes(pack({"set/fine.txt": b"fine", name: b"evil"}))
    with pytest.raises(
        UserError, match="is a link or leads out of the archive's folder, so nothing was unpacked"
    ):
        unpack(inner / "set.archive", inner / "set", lambda count: None)
    assert names(inner) == ["set.archive"]
    assert names(tmp_path) == ["inner"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_file_are_refused(kind, tmp_path):
    (tmp_path / "set.tgz").write_bytes(tar_of({"set/link": kind, "set/link/file.txt": b"through the link"}))
    with pytest.raises(UserError, match="'set/link' is a link or leads out"):
        unpack(tmp_path / "set.tgz", tmp_path / "set", lambda count: None)
    assert names(tmp_path) == ["set.tgz"]


def test_links_in_a_zip_file_are_refused(tmp_path):
    link = zipfile.ZipInfo("set/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(link, "../../elsewhere")
    with pytest.raises(UserError, match="'set/link' is a link or leads out"):
        unpack(tmp_path / "set.zip", tmp_path / "set", lambda count: None)


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"no archive at all"])
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_damaged_archive_leaves_nothing(pack, damage, tmp_path, rng):
    (tmp_path / "set.archive").write_bytes(damage(pack({"set/file.bin": rng.bytes(100_000)})))
    with pytest.raises(UserError, match=r"set\.archive: could not be unpacked to"):
        unpack(tmp_path / "set.archive", tmp_path / "set", lambda count: None)
    assert names(tmp_path) == ["set.archive"]


def test_an_archive_without_the_folder_or_with_one_in_the_way_is_told(tmp_path):
    (tmp_path / "set.zip").write_bytes(zip_of({"other/file.txt": b"content"}))
    with pytest.raises(UserError, match=r"set\.zip: must hold a folder set"):
        unpack(tmp_path / "set.zip", tmp_path / "set", lambda count: None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "old.txt").write_text("old")
    with pytest.raises(UserError, match=r"could not be unpacked .*remove what is there"):
        unpack(tmp_path / "set.zip", tmp_path / "other", lambda count: None)
    assert names(tmp_path / "other") == ["old.txt"]


def test_an_archive_is_fetched_unpacked_and_not_kept(serve, tmp_path, capsys):
    content = tar_of({"set/images/a/1.jpg": b"picture"})
    wanted = source(serve(set__tgz=content) + "set.tgz", content, unpacked="set")
    for _ in range(2):
        download_files("birds", tmp_path, [wanted])
    assert (tmp_path / "set/images/a/1.jpg").read_bytes() == b"picture"
    assert names(tmp_path) == ["set"]
    assert Server.asked == ["/set.tgz"]
    assert "birds: set.tgz" in capsys.readouterr().err


def omniglot_zip(characters):
    """Drawings with one black column, whose place tells the character."""
    entries = {}
    for index, character in enumerate(characters):
        for drawing in range(4):
            paper = np.full((105, 105), 255, np.uint8)
            paper[:, 4 * index] = 0
            buffer = io.BytesIO()
            Image.fromarray(paper).save(buffer, "png")
            entries[f"images/{character}/{drawing}.png"] = buffer.getvalue()
    return zip_of(entries)


@pytest.fixture
def small_omniglot(serve, monkeypatch):
    """Omniglot on our own server: five characters to train on, three to test on, and one of an alphabet in both."""
    small1 = omniglot_zip([f"Greek/character0{i}" for i in range(5)])
    small2 = omniglot_zip([f"Sanskrit/character0{i}" for i in range(3)] + ["Greek/character09"])
    base = serve(images_background_small1__zip=small1, images_background_small2__zip=small2)
    files = {"images_background_small1.zip": small1, "images_background_small2.zip": small2}
    monkeypatch.setitem(SOURCES, "omniglot", tuple(source(base + name, body) for name, body in files.items()))
    monkeypatch.delenv("EV_DATA_DIR", raising=False)


def test_a_set_that_is_nowhere_is_fetched_to_the_cache_folder_once_and_found_there(
    small_omniglot, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = DataConfig(data="omniglot", validation_split="within", validation_share=0.5)
    with pytest.raises(UserError, match="--download"):
        load_split(data)
    assert Server.asked == []
    split = load_split(data, download=True)
    assert names(tmp_path / "escapevelocity/data/omniglot") == sorted(s.file for s in SOURCES["omniglot"])
    assert (len(split.train.classes), len(split.test.classes), len(Server.asked)) == (5, 3, 2)
    again = load_split(data, download=True)
    np.testing.assert_array_equal(again.train.labels, load_split(data).train.labels)
    assert len(Server.asked) == 2


def test_a_set_is_fetched_to_the_data_folder_that_is_named(small_omniglot, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = DataConfig(data="omniglot", validation_split="within", validation_share=0.5)
    load_split(data, tmp_path / "mine", download=True)
    assert names(tmp_path / "mine/omniglot") == sorted(s.file for s in SOURCES["omniglot"])
    assert names(tmp_path) == ["mine"]
    load_split(data, tmp_path / "mine")


def test_a_set_whose_download_broke_off_is_not_taken_for_whole(small_omniglot, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    del Server.served["/images_background_small2.zip"]
    data = DataConfig(data="omniglot", validation_split="within", validation_share=0.5)
    with pytest.raises(UserError, match="answered 404"):
        load_split(data, download=True)
    with pytest.raises(UserError, match=r"holds images_background_small1\.zip.*--download"):
        load_split(data)


def test_cars_cannot_be_fetched_and_it_is_told_where_they_may_be_put(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EV_DATA_DIR", raising=False)
    said = (
        r"cars_annos\.mat.*--data-dir or EV_DATA_DIR; it cannot be fetched .*the official address.*no longer"
    )
    for wanted in (True, False):
        with pytest.raises(UserError, match=said):
            load_split(DataConfig(data="cars196"), tmp_path, download=wanted)


def test_every_set_has_sources_with_whole_hashes_or_a_reason_why_not():
    on_disk = set(datasets.places.LAYOUTS)
    assert set(SOURCES) | set(GONE) == on_disk
    assert set(SOURCES) & set(GONE) == set()
    for sources in SOURCES.values():
        for one in sources:
            assert re.fullmatch("[0-9a-f]{64}", one.sha256)
            assert one.url.startswith(("https://", "http://"))
            assert one.file == Path(one.url).name
    for name in ("mnist", "fashion-mnist", "omniglot"):  # The file by which the set is known comes last.
        assert SOURCES[name][-1].file in datasets.places.LAYOUTS[name].markers


def test_the_hashes_of_files_that_are_here_are_those_of_the_table(shared_data):
    checked = 0
    for name, sources in SOURCES.items():
        for one in sources:
            path = shared_data / name / one.file
            if path.exists():
                assert (download.sha256_of(path), path.stat().st_size) == (one.sha256, one.size)
                checked += 1
    assert checked > 0


@pytest.fixture
def shared_data():
    """The folder of real files beside the project, if there is one."""
    folder = Path(os.environ.get("EV_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data")
    if not any((folder / name).is_dir() for name in ("mnist", "omniglot")):
        pytest.skip("needs MNIST's or Omniglot's files: set EV_DATA_DIR")
    return folder


def test_gzip_of_a_server_is_not_undone(serve, tmp_path):
    """The hash is that of the file as published."""
    content = gzip.compress(CONTENT, mtime=0)
    path = fetch(source(serve(file__gz=content) + "file.gz", content), tmp_path)
    assert gzip.decompress(path.read_bytes()) == CONTENT
