from rbs_jax.eval import portions
from rbs_jax.score import progress
from rbs_jax.suites.items import Item


def test_items_are_asked_for_in_portions_and_counted_by_responses(monkeypatch, capsys):
    monkeypatch.setattr(portions, "PORTION", 2)
    monkeypatch.setattr(progress, "PLAIN_LINES", 0)
    items = [Item(str(n), "all", f"p{n}", ["r"] * (n + 1), 0) for n in range(3)]
    asked = []

    def ask(prompts, responses, names):
        asked.append((prompts, [len(own) for own in responses], names))
        return prompts

    assert portions.in_portions(items, "rewards", ask) == ["p0", "p1", "p2"]
    assert asked == [
        (["p0", "p1"], [1, 2], ["item 0", "item 1"]),
        (["p2"], [3], ["item 2"]),
    ]
    lines = capsys.readouterr().err.splitlines()
    assert not any(", 0.0 a second" in line for line in lines)
    said = [line.partition(" responses")[0] for line in lines]
    assert said == ["rbs: rewards: 3 of 6", "rbs: rewards: 6 of 6"]
