import itertools

from hypothesis import given
from hypothesis import strategies as st

from rbs_jax.data.blocks import pack

END = 0


@given(
    documents=st.lists(st.lists(st.integers(1, 99), max_size=12), max_size=12),
    first_document=st.integers(0, 1000),
    block_length=st.integers(1, 9),
    data=st.data(),
)
def test_packing_loses_no_token_and_repeats_the_overlap(
    documents, first_document, block_length, data
):
    overlap = data.draw(st.integers(0, block_length - 1))
    stride = block_length - overlap
    owned = [
        (token, number)
        for number, ids in enumerate(documents, start=first_document)
        for token in [*ids, END]
    ]
    blocks = list(pack(documents, first_document, block_length, END, overlap))
    assert len(blocks) == max((len(owned) - overlap) // stride, 0)
    for index, block in enumerate(blocks):
        expected = owned[index * stride :][:block_length]
        assert block.tokens.tolist() == [token for token, _ in expected]
        assert (block.first_document, block.last_document) == (expected[0][1], expected[-1][1])


def test_blocks_come_before_the_documents_end():
    endless = pack(itertools.repeat([1, 2, 3]), 0, 6, END)
    assert next(endless).tokens.tolist() == [1, 2, 3, END, 1, 2]
    assert next(endless).tokens.tolist() == [3, END, 1, 2, 3, END]
