"""`rbs check`: the same texts scored here and by transformers."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rbs_jax.convert.config import read_config
from rbs_jax.data.template import Template
from rbs_jax.errors import UserError
from rbs_jax.model.language import LanguageModel, next_token_log_probs
from rbs_jax.model.reward import RewardModel
from rbs_jax.score.scorer import Scorer
from rbs_jax.shapes import TokenBlocks
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.train.models import LoadedModel, find_model, load_model

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest difference allowed by default, by the dtype of the folder's tensors."""
TEXTS: list[tuple[str, list[str]]] = [
    ("What is 12 times 12?", ["144", "It is 144, since 12 * 12 = 144.", "I do not know."]),
    ("", ["A text without a prompt.", "x"]),
    ("Let $f(x) = x^2$. Find $f'(3)$.", ["$f'(x) = 2x$, so $f'(3) = 6$.", "\\frac{1}{2}\n"]),
    ("Prove it.  \n\n", ["  indented\n\ttabbed", "trailing spaces   "]),
    ("¿Qué es esto?", ["Ça, c'est une réponse.", "这是一个答案。", "مرحبا", "e\u0301 and é"]),
    ("emoji 👩‍👩‍👧", ["🎉🎉", "{{ braces }} {% and %} <tags>"]),
    ("word " * 40, ["a much longer continuation " * 8, "short"]),
]
"""Prompts and responses: several lengths, scripts, spaces and signs that templates use."""


def check(model: str, folder: Path, tolerance: float | None = None) -> dict[str, Any]:
    """Score TEXTS with a MODEL here and with a Hugging Face folder in transformers.

    Both in float32, the folder one text at a time and in one padded batch. A language
    model's scores are the mean log-probabilities of a text's tokens [nats].

    Args:
      model: a MODEL.
      folder: what `rbs export` wrote of it, or where it comes from.
      tolerance: largest difference; None for that of the folder's dtype.

    Returns:
      The number of texts and scores, the largest difference, the share of pairs of
      scores in the same order (a tie on one side alone is none), the tolerance and
      whether it holds, which takes equal ids too.

    Raises:
      UserError: PyTorch or transformers is missing, or a model cannot be read.
    """
    _refuse_without_torch()
    found = find_model(model)
    dtype = _dtype(folder)
    if (read_config(folder).head == "CausalLM") != (found.experiment.kind is LanguageModel):
        raise UserError(f"{found} and {folder}: one is a language model, one a reward model")
    mesh = mesh_for_scoring(found.experiment.mesh)
    largest = 0.0
    with jax.set_mesh(mesh), jax.default_matmul_precision("highest"):
        wide = dataclasses.replace(found.experiment.model, dtype="float32")
        found = found._replace(experiment=dataclasses.replace(found.experiment, model=wide))
        loaded = load_model(found, mesh)
        template = Template(loaded.experiment.template, loaded.tokens)
        texts = _fitting(template, loaded.experiment.model.max_positions)
        if len(texts) < 2:
            raise UserError(f"{found}: its context of {wide.max_positions} tokens fits no text")
        ids = [template.encode(prompt, response)[0] for prompt, response in texts]
        with _in_transformers(folder):
            theirs = _Theirs(folder, loaded)
            same_ids = ids == [theirs.encode(template, *text) for text in texts]
        if isinstance(loaded.model, LanguageModel):
            ours = np.array([_likelihood(loaded.model, row, mesh) for row in ids])
            with _in_transformers(folder):
                expected = np.array([theirs.likelihood(row) for row in ids])
        else:
            scores = Scorer(loaded, mesh).score([p for p, _ in texts], [[r] for _, r in texts])
            ours = np.array([own[0] for own in scores], float)
            with _in_transformers(folder):
                expected, padded = theirs.rewards(ids, 1), theirs.rewards(ids, len(ids))
            largest = float(np.abs(ours - padded).max())
    largest = max(largest, float(np.abs(ours - expected).max()))
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    return {
        "model": str(found),
        "folder": str(folder),
        "texts": len(texts),
        "scores": len(ours),
        "same_ids": same_ids,
        "largest_difference": largest,
        "rank_agreement": rank_agreement(ours, expected),
        "mean_absolute_score": float(np.abs(expected).mean()),
        "tolerance": allowed,
        "dtype": dtype,
        "within": same_ids and largest <= allowed,
    }


def rank_agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of pairs that both put in the same order, pairs tied by both among them."""
    signs = [
        np.sign(ours[a] - ours[b]) == np.sign(theirs[a] - theirs[b])
        for a, b in combinations(range(min(len(ours), 500)), 2)
    ]
    return float(np.mean(signs))


def _refuse_without_torch() -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed; a check needs it: pip install 'rbs_jax[torch]'"
        ) from error


@contextmanager
def _in_transformers(folder: Path) -> Iterator[None]:
    """Names the folder where transformers fails on it, whatever it raises."""
    try:
        yield
    except Exception as error:  # its loaders raise everything from KeyError to jinja's errors
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{folder}: transformers fails on it: {why}") from error


def _dtype(folder: Path) -> str:
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        named = fields.get("dtype") or fields.get("torch_dtype") or "float32"
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if named not in TOLERANCE:
        raise UserError(f"{path}: dtype is {named}, not {', '.join(TOLERANCE)}")
    return named


def _fitting(template: Template, context: int) -> list[tuple[str, str]]:
    """Prompt and response of each text that has a token and fits the context."""
    pairs = [(prompt, response) for prompt, own in TEXTS for response in own]
    return [pair for pair in pairs if 1 < len(template.encode(*pair)[0]) <= context]


def _likelihood(model: LanguageModel, ids: list[int], mesh: Mesh) -> float:
    """The mean log-probability of every token but the first."""
    rows = mesh.shape["data"], mesh.shape["fsdp"]
    tokens = jnp.array(np.broadcast_to(np.array(ids, np.int32), (*rows, len(ids))))
    blocks = TokenBlocks(tokens, jnp.zeros_like(tokens))
    return float(np.asarray(jax.jit(next_token_log_probs)(model, blocks))[0, 0].mean())


class _Theirs:
    """The folder in transformers."""

    def __init__(self, folder: Path, loaded: LoadedModel) -> None:
        import torch
        import transformers

        self._is_reward = isinstance(loaded.model, RewardModel)
        kinds = transformers.AutoModelForSequenceClassification, transformers.AutoModelForCausalLM
        transformers.utils.logging.disable_progress_bar()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        kind = kinds[0 if self._is_reward else 1]
        self._model = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self._model.eval()
        self._offset = loaded.experiment.model.head_offset
        self._template = loaded.experiment.template

    def encode(self, template: Template, prompt: str, response: str) -> list[int]:
        """A text's ids as a server makes them: a reward's by the folder's own chat template."""
        text: Any = template.render(prompt, response)[0]
        asked = [{"role": "user", "content": prompt}]
        answer = {"role": "assistant", "content": response}
        render = partial(self._tokenizer.apply_chat_template, tokenize=False)
        has_template = self._is_reward and self._tokenizer.chat_template is not None
        if has_template and self._template.close:
            text = render([*asked, answer])
        elif has_template:
            text = render(asked, add_generation_prompt=True) + response
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def rewards(self, texts: Sequence[list[int]], batch: int) -> np.ndarray:
        """The reward of each text, so many at a time, padded behind."""
        import torch

        got = []
        for at in range(0, len(texts), batch):
            rows = texts[at : at + batch]
            longest = max(map(len, rows))
            pad = self._model.config.pad_token_id or 0
            ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
            with torch.no_grad():
                logits = self._model(ids, attention_mask=mask).logits
            got.append(logits[:, 0].numpy() + self._offset)
        return np.concatenate(got)

    def likelihood(self, ids: list[int]) -> float:
        """The mean log-probability of every token of a text but the first."""
        import torch

        with torch.no_grad():
            logits = self._model(torch.tensor([ids])).logits[0, :-1]
        log_probs = torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), ids[1:]]
        return float(log_probs.mean())
