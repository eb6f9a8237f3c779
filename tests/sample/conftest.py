import openai._base_client
import pytest

from tests.sample.server import stand_in


@pytest.fixture
def server():
    with stand_in() as its:
        yield its


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """No pauses between tries, and no key or proxy of whoever runs the tests."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.0)
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "new" / "candidates.jsonl"
