"""A whole file through `rbs score`, against transformers on the same folder, item by item."""

import json

import numpy as np
import pytest

from rbs_jax.cli import main
from rbs_jax.export.folder import export
from rbs_jax.score.likelihood import Likelihood
from tests.tiny import made_up_documents

pytestmark = pytest.mark.torch


def pairs():
    """Made-up prompts, each with one to four responses, from none to hundreds of characters."""
    chance = np.random.default_rng(3)
    texts = made_up_documents(60, seed=9)
    lines = []
    for n in range(20):
        prompt = texts[n][: int(chance.integers(0, 200))]
        count = int(chance.integers(1, 5))
        responses = [
            f"{texts[int(chance.integers(20, 60))][: int(chance.integers(1, 300))]}é{n}"
            for _ in range(count)
        ]
        lines.append({"prompt": prompt, "responses": responses, "id": n})
    return lines


class Theirs:
    """A folder in transformers, one text at a time, no padding."""

    def __init__(self, folder, kind):
        import torch
        import transformers

        self.torch = torch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = getattr(transformers, f"AutoModelFor{kind}")
        self.model = model.from_pretrained(folder, dtype=torch.float32).eval()

    def reward(self, prompt, response):
        messages = [("user", prompt), ("assistant", response)]
        said = [{"role": role, "content": content} for role, content in messages]
        text = self.tokenizer.apply_chat_template(said, tokenize=False)
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with self.torch.no_grad():
            return self.model(**ids).logits[0, 0].item()

    def log_probs(self, ids, count):
        """The sum of the last tokens' log-probabilities."""
        with self.torch.no_grad():
            every = self.model(self.torch.tensor([ids])).logits[0].log_softmax(-1)
        at = range(len(ids) - count, len(ids))
        return sum(every[n - 1, ids[n]].item() for n in at)


@pytest.mark.parametrize("form", ["chat", "human_assistant"])
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3"])
def test_every_score_of_a_file_is_that_of_transformers(family, form, run, tmp_path):
    untied = {} if family == "Qwen2" else {"tied_embeddings": False}  # Qwen2's are untied here
    folder, _ = run(family, form, **untied)
    export(str(folder), tmp_path / "hf", "hf")
    lines, out = pairs(), tmp_path / "out.jsonl"
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(tmp_path / "hf"), f"{tmp_path}/in.jsonl", "--out", str(out)]) == 0
    theirs = Theirs(tmp_path / "hf", "SequenceClassification")
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [[theirs.reward(line["prompt"], r) for r in line["responses"]] for line in lines]
    ours = [score for line in scored for score in line["scores"]]
    assert len(ours) == sum(len(line["responses"]) for line in lines) > 30
    flat = [score for own in expected for score in own]
    np.testing.assert_allclose(ours, flat, rtol=0, atol=2e-5)
    assert np.std(flat) > 0.1
    assert [line["id"] for line in scored] == [*range(20)]


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_every_log_probability_is_that_of_transformers(family, run, tmp_path, tokens):
    folder, _ = run(family, loss="causal_lm", tied_embeddings=False)
    export(str(folder), tmp_path / "hf", "hf")
    lines, theirs = pairs(), Theirs(tmp_path / "hf", "CausalLM")
    lines[0]["prompt"] = ""
    prompts, responses = ([line[name] for line in lines] for name in ("prompt", "responses"))
    got = Likelihood(str(tmp_path / "hf")).score(prompts, responses)
    straddled = 0
    for prompt, own, found in zip(prompts, responses, got, strict=True):
        for response, ours in zip(own, found, strict=True):
            encoded = theirs.tokenizer(
                prompt + response, add_special_tokens=False, return_offsets_mapping=True
            )
            ends = [end for _, end in encoded.offset_mapping]
            of_prompt = next(at for at, end in enumerate(ends) if end > len(prompt))
            straddled += len(prompt) not in (0, *ends)
            ids, start = encoded.input_ids, [theirs.tokenizer.bos_token_id]
            count = len(ids) - of_prompt
            before = ids[:of_prompt] or start
            assert ours.tokens == count
            total = theirs.log_probs(before + ids[of_prompt:], count)
            assert ours.total == pytest.approx(total, rel=1e-5, abs=1e-4)
            alone = theirs.log_probs(start + ids[of_prompt:], count)
            assert ours.unconditional == pytest.approx(alone, rel=1e-5, abs=1e-4)
    assert straddled > 0
    assert tokens.bos_id == theirs.tokenizer.bos_token_id
