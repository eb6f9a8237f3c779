import json
import os
import shutil

import numpy as np
import pytest

from rbs_jax.data import shards as shards_module
from rbs_jax.data.reader import Corpus
from rbs_jax.errors import UserError


def test_few_files_are_open_at_once_however_many_shards_are_read(sharded, monkeypatch):
    monkeypatch.setattr(shards_module, "OPEN_FILES", 3)
    again = Corpus(sharded.folder)
    for _ in range(2):
        everything = range(len(sharded))
        np.testing.assert_equal(again.read(everything), sharded.read(everything))
        assert len(again._shards._open) == 3
    few = Corpus(sharded.folder)
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    before = sum(sharded.folder in os.readlink(link) for link in links if os.path.lexists(link))
    del few
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    after = sum(sharded.folder in os.readlink(link) for link in links if os.path.lexists(link))
    assert before - after == 3


def test_a_shard_of_another_number_of_blocks_is_broken(sharded, tmp_path):
    """As where two corpora's files of one size were mixed up."""
    shutil.copytree(sharded.folder, tmp_path / "corpus")
    manifest = tmp_path / "corpus" / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["shards"][2]["blocks"] += 1
    manifest.write_text(json.dumps(fields))
    name = "blocks-train.array_record-00002-of-00011"
    with pytest.raises(UserError, match=f"{name}: shard is broken .* in the manifest"):
        Corpus(tmp_path / "corpus")


def test_a_block_that_is_not_there_is_no_other_one(sharded):
    for index in (-1, len(sharded)):
        with pytest.raises(IndexError, match=f"has {len(sharded)} blocks"):
            sharded.read([0, index])
