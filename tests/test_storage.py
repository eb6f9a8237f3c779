"""Files by path and by URL, against the disk and against a real S3 server that fails on demand."""

import errno
import random
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import fsspec
import pytest
from fsspec.registry import _registry

from rbs_jax import remote, storage
from rbs_jax.errors import UserError

DATA = random.Random(0).randbytes(10_000)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setattr(remote, "SILENCE", 0.5)
    monkeypatch.setattr(remote, "BLOCK", 1000)
    monkeypatch.setattr(fsspec.config, "conf", {"gs": {"token": "anon"}})


@pytest.fixture
def no_second_try(monkeypatch):
    def sleep(seconds):
        raise AssertionError("is tried again")

    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=sleep))


@pytest.fixture(params=["disk", "bucket", "gs"])
def folder(request, tmp_path):
    """The path or URL of a folder that is not there yet."""
    if request.param == "disk":
        return str(tmp_path / "folder")
    return request.getfixturevalue(request.param).url + "/folder"


def local(tmp_path, data=DATA):
    file = tmp_path / "local"
    file.write_bytes(data)
    return file


def read(url):
    with storage.open_file(url) as file:
        return file.read()


def test_reads_what_was_put(folder, tmp_path):
    path = f"{folder}/deep/file"
    assert not storage.exists(path)
    storage.put(local(tmp_path), path)
    assert not (tmp_path / "local").exists()
    assert storage.exists(path)
    assert storage.exists(f"{folder}/deep")
    assert storage.size_of(path) == len(DATA)
    assert read(path) == DATA


def test_seeks_as_files_do(folder, tmp_path):
    storage.put(local(tmp_path), f"{folder}/file")
    chance = random.Random(1)
    with (
        storage.open_file(f"{folder}/file") as file,
        local(tmp_path).open("rb") as same,
    ):
        for _ in range(60):
            whence = chance.choice([0, 1, 2])
            offset = {0: 0, 1: -same.tell(), 2: -len(DATA)}[whence] + chance.randrange(12_000)
            assert file.seek(offset, whence) == same.seek(offset, whence)
            count = chance.choice([0, 1, 10, 999, 1000, 1001, 3000])
            assert file.read(count) == same.read(count)
            assert file.tell() == same.tell()


def test_an_empty_file_is_a_file(folder, tmp_path):
    storage.put(local(tmp_path, b""), f"{folder}/empty")
    assert storage.exists(f"{folder}/empty")
    assert storage.size_of(f"{folder}/empty") == 0
    assert read(f"{folder}/empty") == b""


def test_small_texts(folder):
    assert storage.read_text(f"{folder}/note") is None
    storage.put_text("one", f"{folder}/note")
    assert storage.read_text(f"{folder}/note") == "one"
    storage.put_text("zwei ä", f"{folder}/note")
    assert storage.read_text(f"{folder}/note") == "zwei ä"
    assert storage.names_in(folder) == ["note"]


def test_lists_and_removes_folders(folder):
    assert storage.names_in(folder) == []
    storage.remove(folder)
    for name in ["b", "a", "under/c"]:
        storage.put_text(name, f"{folder}/{name}")
    assert storage.names_in(folder) == ["a", "b", "under"]
    storage.remove(folder)
    assert storage.names_in(folder) == []
    assert not storage.exists(folder)


def test_moves_folders(folder):
    for name in ["a", "under/c"]:
        storage.put_text(name, f"{folder}/old/{name}")
    storage.move_folder(f"{folder}/old", f"{folder}/aside/new")
    assert storage.names_in(folder) == ["aside"]
    assert storage.names_in(f"{folder}/aside/new") == ["a", "under"]
    assert storage.read_text(f"{folder}/aside/new/under/c") == "under/c"


def test_a_file_that_is_written_by_and_by_is_whole_or_not_there(folder):
    def write(text):
        with storage.whole_file(f"{folder}/file") as local:
            local.write_text(text)
            assert storage.read_text(f"{folder}/file") in (None, "first")
            assert text != "second"

    with pytest.raises(AssertionError):
        write("second")
    assert storage.names_in(folder) == []
    write("first")
    with pytest.raises(AssertionError):
        write("second")
    assert storage.names_in(folder) == ["file"]
    assert storage.read_text(f"{folder}/file") == "first"


@pytest.mark.parametrize("call", [read, storage.size_of])
def test_a_missing_file_says_its_name(folder, call):
    path = f"{folder}/absent"
    with pytest.raises(FileNotFoundError) as caught:
        call(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == path
    assert caught.value.strerror == "No such file or directory"


def test_what_is_missing_is_asked_for_once(bucket, no_second_try):
    with pytest.raises(FileNotFoundError):
        storage.open_file(f"{bucket.url}/absent")
    assert bucket.asked("absent") == 1


def test_a_missing_bucket_is_no_trouble_of_the_network(bucket, tmp_path, no_second_try):
    with pytest.raises(FileNotFoundError, match="s3://no-such-bucket/key"):
        storage.upload(local(tmp_path), "s3://no-such-bucket/key")
    with pytest.raises(FileNotFoundError, match="s3://no-such-bucket/key"):
        storage.open_file("s3://no-such-bucket/key")


def test_sees_what_others_wrote_since(bucket):
    assert storage.names_in(bucket.url) == []
    assert not storage.exists(f"{bucket.url}/new")
    bucket.put("new", b"1")
    assert storage.names_in(bucket.url) == ["new"]
    assert storage.size_of(f"{bucket.url}/new") == 1
    bucket.put("new", b"22")
    assert storage.size_of(f"{bucket.url}/new") == 2


def test_downloads_beside_then_renames(bucket, tmp_path):
    url = bucket.put("data", DATA)
    storage.download(url, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA
    assert [file.name for file in tmp_path.iterdir()] == ["copy"]


def test_a_download_that_fails_leaves_nothing(bucket, tmp_path):
    (tmp_path / "copy").write_bytes(b"before")
    url = bucket.put("data", DATA)
    bucket.fail("data", "cut", times=100)
    with pytest.raises(remote.Unreachable, match="data"):
        storage.download(url, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["copy"]


def test_a_download_says_which_local_folder_is_missing(bucket, tmp_path):
    url = bucket.put("data", DATA)
    with pytest.raises(FileNotFoundError) as caught:
        storage.download(url, tmp_path / "absent" / "copy")
    assert str(caught.value.filename).startswith(str(tmp_path / "absent"))


def test_uploads(bucket, tmp_path):
    storage.upload(local(tmp_path), f"{bucket.url}/folder/data")
    assert bucket.get("folder/data") == DATA
    assert (tmp_path / "local").exists()


def checked(name, url, here):
    """Calls a function for a file that holds DATA, beside one of text, and checks what it does."""
    match name:
        case "open_file":
            assert read(url) == DATA
        case "size_of":
            assert storage.size_of(url) == len(DATA)
        case "exists":
            assert storage.exists(url)
        case "download":
            storage.download(url, here / "copy")
            assert (here / "copy").read_bytes() == DATA
        case "upload":
            storage.upload(local(here, b"new"), url)
            assert read(url) == b"new"
        case "put":
            storage.put(local(here, b"new"), url)
            assert read(url) == b"new"
        case "put_text":
            storage.put_text("new", url)
            assert read(url) == b"new"
        case "read_text":
            assert storage.read_text(url + "-text") == "text"
        case "names_in":
            assert storage.names_in(url.rpartition("/")[0]) == ["data", "data-text"]
        case "remove":
            storage.remove(url)
            assert not storage.exists(url)


NAMES = [
    "open_file",
    "size_of",
    "exists",
    "download",
    "upload",
    "put",
    "put_text",
    "read_text",
    "names_in",
    "remove",
]


@pytest.fixture
def filled(bucket):
    bucket.put("folder/data-text", b"text")
    return bucket.put("folder/data", DATA)


@pytest.mark.parametrize("kind", ["503", "hang", "cut"])
@pytest.mark.parametrize("name", NAMES)
def test_tries_again(bucket, filled, tmp_path, name, kind):
    times = 1 if kind == "hang" else remote.TRIES - 1
    bucket.fail(".*", kind, times)
    checked(name, filled, tmp_path)
    assert bucket.server.failed() == times


@pytest.mark.parametrize("name", NAMES)
def test_says_what_stays_out_of_order(bucket, filled, tmp_path, name):
    bucket.fail(".*", "503", times=100)
    with pytest.raises(remote.Unreachable, match=r"out of order|Service Unavail") as caught:
        checked(name, filled, tmp_path)
    assert str(caught.value).startswith("s3://")
    assert "\n" not in str(caught.value)
    assert bucket.server.failed() == remote.TRIES


def test_gives_up_on_what_never_answers(bucket, filled, monkeypatch):
    monkeypatch.setattr(remote, "TRIES", 2)
    bucket.fail(".*", "hang", times=100)
    start = time.monotonic()
    with pytest.raises(remote.Unreachable, match=f"{filled}: cannot be reached.*timeout"):
        storage.size_of(filled)
    assert 1 <= time.monotonic() - start < 5
    assert bucket.server.failed() == 2


def test_an_upload_waits_for_no_leave(bucket, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        host = f"http://127.0.0.1:{never_answers.getsockname()[1]}"
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": host})
        monkeypatch.setattr(remote, "TRIES", 1)
        with pytest.raises(remote.Unreachable, match="timeout"):
            storage.upload(local(tmp_path), "s3://bucket/key")


def test_a_wrong_profile_is_the_users_mistake(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "absent")
    monkeypatch.setattr(remote, "SILENCE", 0.7)  # a client of its own
    with pytest.raises(UserError, match=r"s3://bucket/key: .*profile .absent. could not be found"):
        remote.filesystem("s3://bucket/key")


def test_waits_a_sensible_time():
    settings = remote.filesystem("s3://bucket/key")[0].config_kwargs
    assert settings["read_timeout"] == remote.SILENCE
    assert settings["retries"]["total_max_attempts"] == 1


@pytest.mark.parametrize("kind", ["503", "cut"])
def test_a_read_in_the_middle_goes_on_where_it_was(bucket, kind):
    url = bucket.put("data", DATA)
    with storage.open_file(url) as file:
        assert file.read(3000) == DATA[:3000]
        bucket.fail("data", kind, times=remote.TRIES - 1)
        assert file.read(3000) == DATA[3000:6000]
        bucket.fail("data", kind, times=100)
        with pytest.raises(remote.Unreachable, match=f"{url}: cannot be reached, tried"):
            file.read()
        bucket.server.mend()
        assert file.read() == DATA[6000:]


def test_what_becomes_shorter_while_it_is_read_is_no_whole_file(bucket):
    url = bucket.put("data", DATA)
    with storage.open_file(url) as file:
        file.read(1000)
        bucket.put("data", DATA[:1500])
        with pytest.raises(remote.Unreachable, match="became shorter"):
            file.read()


def test_who_may_not_is_told_at_once(bucket, tmp_path, no_second_try):
    bucket.fail("data", "403", times=100)
    with pytest.raises(PermissionError, match=f"You may not: '{bucket.url}/data'") as caught:
        storage.upload(local(tmp_path), f"{bucket.url}/data")
    assert caught.value.filename == f"{bucket.url}/data"


def test_a_full_disk_is_no_trouble_of_the_network(no_second_try):

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device: 's3://bucket/key'"):
        remote.retried("s3://bucket/key", full)


def test_other_processes_find_the_bucket(bucket):
    url = bucket.put("data", b"shared")
    program = f"from rbs_jax import storage; print(storage.open_file({url!r}).read())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "b'shared'\n", done.stderr


def test_an_unknown_protocol_is_the_users_mistake():
    with pytest.raises(UserError, match=r"^ftq://host/file: .*ftq"):
        storage.open_file("ftq://host/file")


@pytest.mark.parametrize(("url", "package"), [("s3://b/k", "s3fs"), ("gs://b/k", "gcsfs")])
def test_says_what_to_install_for_a_bucket(monkeypatch, url, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    monkeypatch.delitem(_registry, url[:2], raising=False)
    with pytest.raises(UserError, match=rf"^{url}: .*{package}.*rbs_jax\[cloud\]") as caught:
        storage.size_of(url)
    assert "\n" not in str(caught.value)


def test_the_users_own_configuration_counts(monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:1"})
    fs, _ = remote.filesystem("s3://bucket/key")
    assert fs.endpoint_url == "http://127.0.0.1:1"
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 77}})
    fs, _ = remote.filesystem("s3://bucket/key")
    assert fs.config_kwargs == {"read_timeout": 77}


@pytest.fixture
def no_google(monkeypatch, tmp_path):
    """An emulator that refuses every connection, and no credentials."""
    import gcsfs.retry

    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield slept
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_google_is_asked_as_often_as_its_client_likes(no_google, caplog):
    url = "gs://bucket/key"
    fs, name = remote.filesystem(url)
    assert (type(fs).__module__.partition(".")[0], name) == ("gcsfs", "bucket/key")
    with pytest.raises(remote.Unreachable, match=f"{url}: .*Connect call failed"):
        storage.size_of(url)
    assert 1 <= len(no_google) <= 12
    assert sum(no_google) < 80
    assert not caplog.records


def test_google_may_not_be_silent_for_ever(no_google, monkeypatch):
    monkeypatch.setattr(remote, "SILENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        host = f"http://127.0.0.1:{never_answers.getsockname()[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        with pytest.raises(remote.Unreachable, match=r"gs://bucket/key: .*imeout"):
            storage.size_of("gs://bucket/key")
