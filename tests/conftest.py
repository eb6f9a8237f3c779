"""Every test runs with 8 simulated CPU devices; a mesh takes as many as it needs.

The tests of the kernels run on the accelerator they are for with RBS_TEST_ON=cuda or tpu.

On CPU nearly all the time of the tests is that of compiling, and most of it goes into machine
code that then runs for milliseconds. So that is made quickly here. The HLO is optimised as ever;
without fusion emitters a few of its fusions differ, so tests of what a program holds pass
`tests.optimised.AS_USED` to its compile(). Flags of one's own win:
XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true" pytest
tests just what users run.
"""

import os

import jax
import pytest

from rbs_jax.sharding import MeshConfig, make_mesh

PLATFORM = os.environ.get("RBS_TEST_ON", "cpu")
QUICKLY = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
if PLATFORM == "cpu":  # before the backend starts; commands that tests start inherit it
    os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}"
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # which asks Google of each bucket
jax.config.update("jax_platforms", PLATFORM)
jax.config.update("jax_num_cpu_devices", 8)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes go by their argument's name: gzip's hold the second they were packed in, and two
    workers that collected in different seconds would not have the same tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory):
    """Many tests compile the same small programs; within a session they share them."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="module", autouse=True)
def let_go():
    """A process may map only so many pieces of memory, and each compiled program is several."""
    yield
    jax.clear_caches()


@pytest.fixture
def mesh():
    """One device through the same code as a pod."""
    one = make_mesh(MeshConfig())
    with jax.set_mesh(one):
        yield one


@pytest.fixture(scope="session")
def s3():
    """A server of buckets, started by the first test that needs one."""
    from tests.buckets import serving

    with pytest.MonkeyPatch.context() as environment, serving(environment) as server:
        yield server


@pytest.fixture
def bucket(s3):
    """An empty bucket, whose URL any process of this test can open."""
    from tests.buckets import Bucket

    yield Bucket(s3, f"bucket-{len(s3.asked)}")
    s3.mend()


@pytest.fixture(scope="session")
def google():
    """A server of gs:// buckets, started by the first test that needs one."""
    from tests.gcs import serving

    with pytest.MonkeyPatch.context() as environment, serving(environment) as server:
        yield server


@pytest.fixture
def gs(google):
    """An empty gs:// bucket, whose URL any process of this test can open."""
    from tests.gcs import Bucket

    yield Bucket(google, f"bucket-{len(google.asked)}")
    google.mend()
