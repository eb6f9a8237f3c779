"""The other side of benchmarks/step.py: explicit pairs in PyTorch."""

import copy
import tempfile
import time

import torch
from step_task import MATMUL, OBJECTIVE, OPTIM, PAD, First, Step, Task, matmul_speed, matmul_width
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar
from turns import Peak, divisors, fastest, give_back_memory, own_memory, take_threads

PROBED = 8
"""Pairs, at least, that a batch size is tried on."""


class Pairs:
    """Every pair as two whole texts, the true one and a negative, through a transformers model.

    A step encodes 2 B (B - 1) texts. Attention is sdpa, nothing is recomputed, there is no
    dropout. Weights are float32; in bfloat16, products are autocast.
    """

    def __init__(self, task: Task) -> None:
        take_threads(task.threads)
        torch.set_num_threads(task.threads)
        self._task = task
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = getattr(torch, task.dtype)
        disable_progress_bar()
        self._before = own_memory()
        self._model = AutoModelForSequenceClassification.from_pretrained(
            task.folder, dtype=torch.float32, attn_implementation="sdpa"
        )
        self._model.to(self._device).train()
        self._parameters = list(self._model.parameters())
        self._updates = self._pairs_of_updates()

    def _pairs_of_updates(self) -> list[torch.Tensor]:
        """The ids [pairs, true or negative, C + T] of each of a step's updates."""
        whole_PST = torch.tensor(self._task.whole_texts(), dtype=torch.long)
        rows = range(self._task.shape.prefixes)
        pairs = [
            torch.stack([whole_PST[i, i], whole_PST[i, j]]) for i in rows for j in rows if i != j
        ]
        return [torch.stack(pairs).to(self._device)]

    def _loss(self, texts: torch.Tensor) -> torch.Tensor:
        """Of the true texts and behind them, in the same order, the negative ones."""
        raise NotImplementedError

    def choose(self) -> int:
        """How many pairs at a time are fastest."""
        pairs = self._updates[0]

        def seconds_each(size: int) -> float | None:
            part = pairs[: max(size, min(PROBED, len(pairs)))]
            try:
                self._gradients(part, size)
                began = self._now()
                self._gradients(part, size)
            except torch.cuda.OutOfMemoryError:
                return None
            return (self._now() - began) / len(part)

        return fastest(divisors(len(pairs)), seconds_each)

    def first(self, size: int) -> First:
        """Make the step that moves nothing."""
        self._size, self._optimizer = size, self._faster_optimizer()
        first = self._step()
        for group in self._optimizer.param_groups:
            group["lr"] = OPTIM.learning_rate
        give_back_memory()
        return first if len(self._updates) == 1 else First(first.loss, None)

    def _faster_optimizer(self) -> torch.optim.Optimizer:
        """AdamW at rate 0, fused into one kernel or not."""
        tried = {}
        for fused in (True, False):
            optimizer = torch.optim.AdamW(
                self._parameters,
                lr=0.0,
                betas=(OPTIM.beta1, OPTIM.beta2),
                eps=OPTIM.eps,
                weight_decay=OPTIM.weight_decay,
                fused=fused,
            )
            for _ in range(2):  # the first makes the moments
                for parameter in self._parameters:
                    parameter.grad = torch.zeros_like(parameter)
                began = self._now()
                optimizer.step()
                tried[optimizer] = self._now() - began
        return min(tried, key=lambda optimizer: tried[optimizer])

    def step(self) -> Step:
        """Make a step."""
        with Peak() as peak:
            began = self._now()
            self._step()
            seconds = self._now() - began
        on_device = self._device.type == "cuda"
        memory = torch.cuda.max_memory_allocated() if on_device else peak.bytes - self._before
        return Step(seconds, memory)

    def _step(self) -> First:
        """All updates of a grid: the mean of their losses, and the last one's gradient norm."""
        firsts = [self._update(pairs) for pairs in self._updates]
        losses = torch.stack([loss for loss, _ in firsts])
        return First(losses.mean().item(), firsts[-1][1].item())

    def _update(self, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One update: its loss and gradient norm."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(pairs, self._size)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, OPTIM.clip_norm)
        self._optimizer.step()
        return loss, norm

    def _gradients(self, pairs: torch.Tensor, size: int) -> torch.Tensor:
        """The gradients of the mean loss of pairs, `size` of them at a time; the loss."""
        total = torch.zeros((), device=self._device)
        for part in pairs.split(size):
            texts = part.transpose(0, 1).flatten(0, 1)
            total += self._backward(texts, len(part) / len(pairs))
        return total

    def _backward(self, texts: torch.Tensor, share: float) -> torch.Tensor:
        """Adds to the gradients those of a part, which is this share of the pairs."""
        is_half = self._dtype == torch.bfloat16
        with torch.autocast(self._device.type, torch.bfloat16, enabled=is_half):
            loss = self._loss(texts).float() * share
        loss.backward()
        return loss.detach()

    def matmul(self) -> float:
        """Products of large square matrices in the compute dtype [FLOP/s]."""
        width = matmul_width(self._device.type != "cpu")
        x = torch.randn(width, width, dtype=self._dtype, device=self._device) / width**0.5

        def seconds() -> float:
            began, y = self._now(), x
            for _ in range(MATMUL):
                y = y @ x
            return self._now() - began

        return matmul_speed(seconds, width)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class Trl(Pairs):
    """The installed TRL RewardTrainer's own `compute_loss`, metrics and all; an update a grid."""

    def __init__(self, task: Task) -> None:
        from datasets import Dataset
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast
        from trl import RewardConfig, RewardTrainer

        super().__init__(task)
        words = Tokenizer(models.WordLevel({"<pad>": PAD, "<word>": 1}, unk_token="<word>"))
        chosen, rejected = self._updates[0][:1].tolist()[0]
        with tempfile.TemporaryDirectory() as folder:
            self._trainer = RewardTrainer(
                self._model,
                RewardConfig(
                    folder,
                    bf16=self._dtype == torch.bfloat16,
                    use_cpu=self._device.type == "cpu",
                    center_rewards_coefficient=OBJECTIVE.centering,
                    gradient_checkpointing=False,
                    max_length=None,
                    report_to=[],
                ),
                train_dataset=Dataset.from_dict(
                    {"chosen_ids": [chosen], "rejected_ids": [rejected]}
                ),
                processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"),
            )

    def _loss(self, texts: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids": texts, "attention_mask": torch.ones_like(texts)}
        return self._trainer.compute_loss(self._model, inputs)

    def _step(self) -> First:
        self._trainer._metrics["train"].clear()  # as logging does
        return super()._step()


class Released(Pairs):
    """The schedule of the paper's released code (arXiv:2603.02225).

    An update for each prefix, on its B - 1 pairs one at a time: its true text is encoded, and
    its gradient computed, anew for each negative. So it encodes as many texts as explicit pairs
    do, in the smallest batches. In bfloat16 the whole model is, beside float32 weights that
    collect the gradients and are updated. Its recomputation in the backward pass, which costs
    another third, is left out, and its centering is the other programs', not the square.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        is_half = self._dtype == torch.bfloat16
        self._running = copy.deepcopy(self._model).to(self._dtype) if is_half else self._model
        of_running = self._running.parameters()
        self._copied = list(zip(self._parameters, of_running, strict=True)) if is_half else []

    def _pairs_of_updates(self) -> list[torch.Tensor]:
        (pairs,) = super()._pairs_of_updates()
        return list(pairs.split(self._task.shape.prefixes - 1))

    def choose(self) -> int:
        """One pair, as released."""
        return 1

    def _update(self, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = super()._update(pairs)
        with torch.no_grad():
            for weight, half in self._copied:
                half.copy_(weight)
        return made

    def _backward(self, texts: torch.Tensor, share: float) -> torch.Tensor:
        loss = self._loss(texts).float() * share
        loss.backward()
        for weight, half in self._copied:
            if weight.grad is None:
                weight.grad = half.grad.float()
            else:
                weight.grad += half.grad
            half.grad = None
        return loss.detach()

    def _loss(self, texts: torch.Tensor) -> torch.Tensor:
        rewards = self._running(input_ids=texts, use_cache=False).logits[:, 0]
        true, negative = rewards.chunk(2)
        centering = (true + negative).square().mean()
        return OBJECTIVE.centering * centering - logsigmoid(true - negative).mean()
