import pytest

from rbs_jax.suites.rmb import RMB
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)

TALK = [{"content": "hello", "language": "English", "role": "user"}]


def answer(text):
    return {"llm_name": "m", "answer": text, "score": 1.0}


def pair(scenario, **other):
    return {
        "pair_uid": "1",
        "conversation_input": TALK,
        "chosen": answer("good"),
        "reject": answer("bad"),
        "category_path": f"Pairwise_set/{scenario}",
    } | other


def best(scenario, losers=2, **other):
    return {
        "conversation_input": TALK,
        "bon_best": answer("best"),
        "loser_list": [answer(f"worse {n}") for n in range(losers)],
        "bon_uid": "2",
        "category_path": f"BoN_set/{scenario}",
    } | other


def test_files_as_published(tmp_path):
    chat = "Helpfulness/Chat/Casual Conversation"
    write(tmp_path / f"RMB_dataset/Pairwise_set/{chat}.json", [pair(chat)] * 2)
    write(tmp_path / f"RMB_dataset/BoN_set/{chat}.json", [best(chat)])
    write(tmp_path / "RMB_dataset/BoN_set/Harmlessness/S1.json", [best("Harmlessness/S1", 3)] * 2)
    items = RMB.read(f"{tmp_path}/RMB_dataset")
    assert [item.subset for item in items] == [
        *["BoN_set/Harmlessness/S1"] * 2,
        "BoN_set/Helpfulness/Chat",
        *["Pairwise_set/Helpfulness/Chat"] * 2,
    ]
    assert items[2].id == "2"
    assert items[2].responses == ["best", "worse 0", "worse 1"]
    assert items[4].responses == ["good", "bad"]
    assert items[4].prompt == [{"role": "user", "content": "hello"}]
    scores = [[2, 1, 1, 1], [2, 1, 1, 2], [1, 0, 2], [1, 0], [1, 0]]  # a tie is lost
    assert figures(RMB, items, scores) == {
        "overall": pytest.approx((0 + 1 + 0.5) / 3),
        "BoN_set/Helpfulness": 0,
        "Pairwise_set/Helpfulness": 1,
        "BoN_set/Harmlessness": 0.5,
    }
    chance_is_the_mean_over_random_scores(RMB, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "S1.json"
    row = pair("Harmlessness/S1")
    refused(RMB, file, row | {"category_path": "S1"}, "row 1", "'category_path' is 'S1'")
    refused(RMB, file, row | {"reject": "bad"}, "row 1", "'reject'")
    refused(RMB, file, row | {"chosen": {"llm_name": "m"}}, "row 1", "chosen", "'answer'")
    refused(RMB, file, best("Harmlessness/S1", losers=0), "row 1", "'loser_list'")
    refused(RMB, file, best("Harmlessness/S1", loser_list=[3]), "row 1", "loser_list[0]")
