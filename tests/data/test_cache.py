import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rbs_jax import storage
from rbs_jax.data import cache as cache_module
from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.reader import Corpus
from rbs_jax.errors import UserError
from rbs_jax.remote import TRIES

FILES = fsspec.filesystem("memory")


def copies(tmp_path):
    """The shards that lie in the cache, by name."""
    return {path.name: path for path in (tmp_path / "cache").glob("*/blocks-*")}


def everything(corpus):
    return corpus.read(range(len(corpus)))


def first_of(corpus, shard):
    return sum(corpus.shard_blocks[:shard])


@pytest.fixture
def fetched(monkeypatch):
    """The names of files as they are fetched."""
    names, download = [], storage.download

    def counted(url, to):
        names.append(url.rpartition("/")[2])
        time.sleep(0.01 * names[-1].startswith("blocks"))  # for threads to meet
        download(url, to)

    monkeypatch.setattr(cache_module, "download", counted)
    return names


def bound(corpus, shards):
    """So many gigabytes as that many of the largest shards have."""
    return shards * max(shard["bytes"] for shard in corpus.manifest.shards) / 1e9


def test_shards_are_fetched_on_first_use_and_once(sharded, bucket, tmp_path, fetched):
    remote = Corpus(bucket(sharded))
    assert copies(tmp_path) == {}
    assert set(fetched) == {"manifest.json", *cache_module.NEEDED, "tokenizer_config.json"}
    del fetched[:]
    remote.read([first_of(sharded, 3)])
    assert fetched == list(copies(tmp_path)) == ["blocks-train.array_record-00003-of-00011"]
    np.testing.assert_equal(everything(remote), everything(sharded))
    everything(remote)
    everything(Corpus(remote.folder))
    shards = [name for name in fetched if name.startswith("blocks")]
    assert sorted(shards) == sorted(copies(tmp_path))
    assert len(shards) == len(sharded.manifest.shards) == 11


def test_the_cache_stays_within_its_bound_and_open_files_too(sharded, bucket, tmp_path):
    url, rows = bucket(sharded), everything(sharded)
    chance = np.random.default_rng(0)
    for shards in (3, 1, 0.5):
        remote = Corpus(url, bound(sharded, shards))
        assert len(copies(tmp_path)) <= max(shards, 1)
        for _ in range(20):
            at = chance.integers(len(sharded), size=4).tolist()
            np.testing.assert_array_equal(remote.read(at).tokens, rows.tokens[at])
            assert 1 <= len(copies(tmp_path)) <= max(shards, 1)
        opened = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        targets = [os.readlink(file) for file in opened if os.path.lexists(file)]
        held = [name for name in targets if str(tmp_path / "cache") in name]
        assert not [name for name in held if name.endswith("(deleted)")], "disk that is not free"


def test_the_shards_read_longest_ago_make_room(sharded, bucket, tmp_path, fetched):
    remote = Corpus(bucket(sharded), bound(sharded, 3))
    for shard in (0, 1, 2, 0, 3):
        remote.read([first_of(sharded, shard)])
    del fetched[:]
    remote.read([first_of(sharded, 0), first_of(sharded, 3)])
    assert fetched == []
    remote.read([first_of(sharded, 1)])
    assert fetched == ["blocks-train.array_record-00001-of-00011"]


def test_room_is_made_before_a_shard_comes(sharded, bucket, tmp_path, monkeypatch):
    remote, sums = Corpus(bucket(sharded), bound(sharded, 2)), []

    def measured(url, to):
        storage.download(url, to)
        sums.append(sum(path.stat().st_size for path in copies(tmp_path).values()))

    monkeypatch.setattr(cache_module, "download", measured)
    for shard in range(5):
        remote.read([first_of(sharded, shard)])
    assert len(sums) == 5
    assert max(sums) <= bound(sharded, 2) * 1e9


def test_all_corpora_share_the_bound(sharded, corpus, bucket, tmp_path):
    one = Corpus(bucket(sharded), bound(sharded, 2))
    other = Corpus(bucket(corpus, "other"), bound(sharded, 2))
    everything(one)
    everything(other)
    sizes = [path.stat().st_size for path in copies(tmp_path).values()]
    assert sum(sizes) <= bound(sharded, 2) * 1e9


def test_a_corpus_written_anew_never_meets_its_old_shards(sharded, bucket, tmp_path, texts, tokens):
    before = Corpus(bucket(sharded))
    everything(before)
    write_corpus(texts[::2], tmp_path / "anew", tokens, 10, {})
    FILES.rm("/bucket/train", recursive=True)
    anew = Corpus(tmp_path / "anew")
    after = Corpus(bucket(anew))
    np.testing.assert_equal(everything(after), everything(anew))
    np.testing.assert_equal(everything(before), everything(sharded))
    assert len(list((tmp_path / "cache").glob("train-*"))) == 2


def test_threads_that_want_one_shard_fetch_it_once(sharded, bucket, tmp_path, fetched):
    url = bucket(sharded)
    readers = [Corpus(url) for _ in range(4)]
    del fetched[:]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda reader: reader.read([0]), readers))
    assert fetched == ["blocks-train.array_record-00000-of-00011"]


def test_a_copy_that_others_delete_stays_readable_while_open_and_is_fetched_again_later(
    sharded, bucket, tmp_path, fetched
):
    remote, rows = Corpus(bucket(sharded)), everything(sharded)
    everything(remote)
    for path in copies(tmp_path).values():
        path.unlink()
    del fetched[:]
    np.testing.assert_array_equal(remote.read([0]).tokens, rows.tokens[:1])
    assert fetched == []
    np.testing.assert_equal(everything(Corpus(remote.folder)), rows)


def test_a_copy_that_vanishes_before_it_is_opened_is_fetched_again(
    sharded, bucket, monkeypatch, tmp_path
):
    remote, vanishing = Corpus(bucket(sharded)), [3]
    opened = remote._cache.opened

    def others_delete_it_first(name, opener):
        def late(path):
            if vanishing[0]:
                vanishing[0] -= 1
                path.unlink()
            return opener(path)

        return opened(name, late)

    monkeypatch.setattr(remote._cache, "opened", others_delete_it_first)
    np.testing.assert_array_equal(remote.read([0]).tokens, sharded.read([0]).tokens)
    assert vanishing == [0]
    vanishing[0] = 1000
    with pytest.raises(UserError, match=r"deleted 10 times before .*--data\.cache-gigabytes"):
        remote.read([first_of(sharded, 1)])


def test_a_copy_cut_short_by_a_crash_is_fetched_again(sharded, bucket, tmp_path):
    url = bucket(sharded)
    everything(Corpus(url))
    for path in copies(tmp_path).values():
        path.write_bytes(path.read_bytes()[:10])
    np.testing.assert_equal(everything(Corpus(url)), everything(sharded))


def test_a_broken_copy_is_named_by_its_url_and_deleted(sharded, bucket, tmp_path):
    url = bucket(sharded)
    everything(Corpus(url))
    path = copies(tmp_path)["blocks-train.array_record-00002-of-00011"]
    path.write_bytes(b"\xaa" * path.stat().st_size)
    with pytest.raises(UserError, match=rf"^{url}/{path.name}: shard is broken .*start again"):
        everything(Corpus(url))
    np.testing.assert_equal(everything(Corpus(url)), everything(sharded))


def test_shards_that_are_missing_or_of_another_size_are_found_at_opening(sharded, bucket):
    url, name = bucket(sharded), "blocks-train.array_record-00002-of-00011"
    kept = FILES.cat(f"/bucket/train/{name}")
    FILES.pipe(f"/bucket/train/{name}", kept[:-1])
    with pytest.raises(UserError, match=f"{url}/{name}: shard is broken .*; prepare the corpus"):
        Corpus(url)
    FILES.rm(f"/bucket/train/{name}")
    with pytest.raises(UserError, match=f"{url}/{name}: shard is missing; prepare the corpus"):
        Corpus(url)


def test_a_shard_broken_or_gone_behind_the_url_is_named_at_its_first_use(sharded, bucket):
    url, name = bucket(sharded), "blocks-train.array_record-00002-of-00011"
    remote = Corpus(url)
    kept = FILES.cat(f"/bucket/train/{name}")
    for damaged, said in ((bytes(len(kept)), "is broken"), (kept[:-1], "bytes came of")):
        FILES.pipe(f"/bucket/train/{name}", damaged)
        remote.read([0])
        with pytest.raises(UserError, match=f"{url}/{name}: .*{said}"):
            everything(remote)
    FILES.rm(f"/bucket/train/{name}")
    with pytest.raises(UserError, match=f"{url}/{name}: cannot be fetched"):
        everything(remote)


@pytest.mark.parametrize("lacking", ["tokenizer.json", "features.json", "dataset_info.json"])
def test_a_corpus_that_lacks_a_small_file_is_refused(sharded, bucket, lacking):
    url = bucket(sharded)
    FILES.rm(f"/bucket/train/{lacking}")
    with pytest.raises(UserError, match=f"{url}/{lacking}: file is missing"):
        Corpus(url)


def test_what_is_no_corpus_is_named_by_its_url(bucket):
    with pytest.raises(UserError, match=r"^memory://bucket/nothing: no corpus here"):
        Corpus("memory://bucket/nothing/")
    FILES.pipe("/bucket/odd/manifest.json", b"{")
    with pytest.raises(UserError, match=r"^memory://bucket/odd/manifest\.json: not a manifest"):
        Corpus("memory://bucket/odd")


def test_a_template_beside_the_tokenizer_is_fetched_and_goes_when_it_is_gone(sharded, bucket):
    url = bucket(sharded)
    FILES.pipe("/bucket/train/chat_template.jinja", b"{{ messages }}")
    assert Corpus(url).tokens().chat_template == "{{ messages }}"
    FILES.rm("/bucket/train/chat_template.jinja")
    assert Corpus(url).tokens().chat_template is None
    assert Corpus(url).tokens().sha256 == sharded.tokens().sha256


def test_what_a_network_refuses_is_tried_again_and_then_said(sharded, bucket, monkeypatch):
    url, calls, get_file = bucket(sharded), [0], type(FILES).get_file
    remote = Corpus(url)

    def flaky(*args, **kwargs):
        calls[0] += 1
        if calls[0] < TRIES:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        return get_file(*args, **kwargs)

    monkeypatch.setattr(type(FILES), "get_file", flaky)  # each thread has an instance of its own
    np.testing.assert_array_equal(remote.read([0]).tokens, sharded.read([0]).tokens)
    assert calls == [TRIES]
    calls[0] = -1000
    with pytest.raises(UserError, match=f"{url}/blocks.*: cannot be reached, tried 5 .* reset"):
        everything(remote)


def test_a_full_disk_is_the_copy_s_and_leaves_nothing(sharded, bucket, tmp_path, monkeypatch):
    remote = Corpus(bucket(sharded))

    def full(_files, _name, to, **_):
        Path(to).write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(FILES), "get_file", full)
    with pytest.raises(UserError, match=r"No space left on device; copies go to \$RBS_CACHE"):
        remote.read([0])
    assert copies(tmp_path) == {}


def test_what_a_killed_process_left_half_fetched_makes_room_once_it_is_old(
    sharded, bucket, tmp_path
):
    url = bucket(sharded)
    remote = Corpus(url, bound(sharded, 1))
    remote.read([0])
    (copy,) = copies(tmp_path).values()
    left = copy.with_name(f"{copy.name}.0123{cache_module.FETCHING}.partial")
    shutil.copy(copy, left)
    remote.read([first_of(sharded, 1)])
    assert left.exists()
    os.utime(left, (0, 0))
    remote.read([first_of(sharded, 2)])
    assert not left.exists()


def test_local_corpora_are_read_in_place(sharded, tmp_path, monkeypatch):
    monkeypatch.setenv("RBS_CACHE", str(tmp_path / "cache"))
    everything(Corpus(sharded.folder))
    assert not (tmp_path / "cache").exists()
    assert not sharded.exceeds_cache


def test_a_file_s_url_is_remote_too(sharded, tmp_path, monkeypatch):
    monkeypatch.setenv("RBS_CACHE", str(tmp_path / "cache"))
    remote = Corpus(f"file://{sharded.folder}/")
    assert remote.folder == f"file://{sharded.folder}"
    np.testing.assert_equal(everything(remote), everything(sharded))
    assert len(copies(tmp_path)) == 11
