"""Candidates of 24 prompts, and files of lines."""

import json

import numpy as np

from tests.tiny import made_up_documents


def rows():
    """Candidates of 24 prompts, three to five of each, from two sources."""
    chance, texts = np.random.default_rng(0), made_up_documents(200)
    made = []
    for at in range(24):
        count = 3 + at % 3
        lengths = chance.permutation(np.arange(5, 40))[:count]  # no two are the same
        responses = [texts[5 * at + k][:length] for k, length in enumerate(lengths)]
        made.append(
            {
                "id": f"row {at}",
                "prompt": texts[150 + at][:20],
                "responses": responses,
                "correct": [bool(chance.random() < 0.4) for _ in responses],
                "answers": [str(int(chance.integers(3))) for _ in responses],
                "gold": [float(len(text)) for text in responses],
                "logprob": [float(chance.normal()) for _ in responses],
                "source": ["ab"[k % 2] for k in range(count)],
            }
        )
    return made


def write(file, lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]
