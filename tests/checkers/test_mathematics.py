import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.checkers import mathematics
from rbs_jax.checkers.mathematics import GSM8K, MATH
from rbs_jax.errors import UserError


def right(fields, response, checker=MATH):
    return checker.check(fields, response).right


def answer(response, checker=MATH):
    return checker.check({"answer": "1"}, response).answer


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": "1080"},
        {"answer": "1,080"},
        {"answer": 1080},
        {"answer": 1080.0},
        {"answer": "$1080$"},
        {"answer": r"\boxed{1080}"},
        {"answer": "She has 12 * 90 = <<12*90=1080>>1080.\n#### 1,080"},
        {"solution": "She has 12 * 90 = <<12*90=1080>>1080.\n#### 1,080"},
        {"solution": r"As $9 \cdot 120 = 1080$, it is $\boxed{1080}$, and not 7."},
        {"answer": "1080", "solution": "#### 7"},
        {"answer": None, "solution": "#### 1080"},
        {"solution": "#### Multiply\n12 * 90 = 1080\n#### 1,0,80"},
        {"solution": "#### 7\nor is it more?\n#### 1080"},
    ],
)
def test_references_of_many_forms(fields):
    for checker in (GSM8K, MATH):
        assert right(fields, r"First 7, so \boxed{1080}.", checker) == 1.0
        assert right(fields, "It is 1,080 in all\nA: 1080", checker) == 1.0
        assert right(fields, r"\boxed{1081}", checker) == 0.0
        assert right(fields, "no idea", checker) == 0.0


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0.00001, "0.00001"),
        (1.5e-5, "0.000015"),
        (-2.5e-7, "-0.00000025"),
        (1e16, "10000000000000000"),
        (1e22, "10000000000000000000000"),
        (10**25, "10000000000000000000000000"),
    ],
)
def test_a_number_has_no_exponent(number, written):
    """To math-verify 1e-05 is Euler's e less 5."""
    for checker in (GSM8K, MATH):
        assert right({"answer": number}, rf"\boxed{{{written}}}", checker) == 1.0
        assert right({"answer": number}, r"\boxed{7}", checker) == 0.0
    assert right({"answer": number}, f"#### {written}", GSM8K) == 1.0


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200)
def test_a_reference_is_the_number_that_it_was(number):
    written = mathematics.reference({"answer": number})
    assert re.fullmatch(r"\\boxed\{-?\d+(\.\d+)?\}", written)
    assert float(written[len(r"\boxed{") : -1]) == number


@pytest.mark.parametrize(
    ("reference", "response"),
    [
        (r"\frac{1}{2}", "So it is 0.5"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
        (r"1, \frac{8}{9}", r"\boxed{\frac{8}{9}, 1}"),
        (r"1, $\frac{8}{9}$", r"\boxed{\frac{8}{9}, 1}"),
        (r"\$36", r"\boxed{36}"),
        (r"x^2 + 2x + 1", r"The final answer is $(x+1)^2$."),
        (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}"),
        ("5", r"\boxed{x = 5}"),
        (r"\{x \mid x<0\}", r"\boxed{\{x \mid x<0\}}"),  # sympy cannot; as a string
    ],
)
def test_latex_without_dollars(reference, response):
    assert right({"answer": reference}, response) == 1.0
    assert right({"answer": reference}, r"\boxed{77}") == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no field 'answer' and none 'solution'"),
        ({"answer": ["1"]}, "field 'answer' is list, not a string or a number"),
        ({"answer": True}, "field 'answer' is bool"),
        ({"answer": float("nan")}, "field 'answer' is nan, not a finite number"),
        ({"solution": float("-inf")}, "field 'solution' is -inf, not a finite number"),
        ({"solution": "It is 5."}, r"field 'solution' has no '####' and no \\boxed{}"),
        ({"answer": ""}, "finds no answer in the reference"),
        ({"answer": "work\n####"}, "finds no answer in the reference"),
    ],
)
def test_a_line_without_a_reference_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        GSM8K.check(fields, "5")


@pytest.mark.parametrize("end", ["#### 129200", "#### 129,200.", "####$129,200 \n"])
def test_gsm8ks_own_mark_at_the_end_is_the_answer(end):
    """Between two prices math-verify finds a formula."""
    response = f"The final answer is $76,000 + $53,200 = $129,200. {end}"
    assert GSM8K.check({"answer": "129200"}, response) == (1.0, "129200")
    assert right({"answer": "129200"}, response, MATH) == 0.0


def test_elsewhere_the_mark_is_a_heading():
    assert right({"answer": "4"}, "#### 1. Add\nThe answer is 4", GSM8K) == 1.0
    assert right({"answer": "4"}, "#### 1\nThe answer is 4", GSM8K) == 1.0


@given(st.integers(-(10**12), 10**12), st.integers(-3, 3))
@settings(max_examples=50, deadline=None)
def test_a_whole_number_is_right_where_it_is_the_references(number, off):
    said = f"Work.\n#### {number + off:,}"
    found = GSM8K.check({"solution": f"Other work.\n#### {number:,}"}, said)
    assert found == (float(off == 0), str(number + off))


@given(st.integers(-999, 999), st.sampled_from([1, 2, 4, 5, 8, 10, 16, 20, 25]))
@settings(max_examples=50, deadline=None)
def test_votes_know_a_number_however_it_is_written(over, under):
    written = [rf"\boxed{{\frac{{{over}}}{{{under}}}}}", rf"\boxed{{x={over / under}}}"]
    assert len({answer(text) for text in written}) == 1
    assert answer(written[0]) != answer(rf"\boxed{{\frac{{{over + 1}}}{{{under}}}}}")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"\boxed{-0.5}", "-0.5"),
        (r"\boxed{-0.00000001}", "0"),
        (r"\boxed{100}", "100"),
        (r"\boxed{100.00}", "100"),
        (r"\boxed{12345678901234567891}", "12345678901234567891"),
        (r"\boxed{\sqrt{2}}", "1.414214"),
        (r"\boxed{50\%}", "0.5"),
        (r"\boxed{x = 33.3\%}", "0.333"),
        (r"\boxed{100\%}", "1"),
        (r"\boxed{1 - 20\%}", "0.8"),
        ("It is 12.5 percent", "0.125"),
        (r"\boxed{x \cdot 50\%}", "x*50*(1/100)"),
        (r"\boxed{\sqrt{-4} \cdot 50\%}", "sqrt(-4)*50*(1/100)"),
        (r"\boxed{50\% \cdot \int_0^1 \frac{1}{x} dx}", "50*(1/100)*Integral(1/x, (x, 0, 1))"),
        (r"\boxed{2, 1}", "{1, 2}"),
        (r"\boxed{1+x}", "x + 1"),
        ("none", None),
        ("answer: (3+4 ", "(3+4"),  # it cannot be parsed
        (r"\boxed{\{x \mid x<0\}}", r"\{x \mid x<0\}"),
    ],
)
def test_what_votes_count(response, expected):
    assert answer(response) == expected


def test_a_number_too_large_to_write_votes_by_its_formula():
    assert answer(r"\boxed{10^{9999}}") == "10**9999"


def test_a_formula_that_takes_too_long_to_write_votes_by_its_text(monkeypatch):
    monkeypatch.setattr(mathematics, "SECONDS", 1)
    monkeypatch.setattr(mathematics, "_written", lambda _: time.sleep(30))
    assert answer(r"\boxed{2+x}") == "2+x"


@pytest.mark.slow
def test_a_percentage_too_large_to_evaluate_is_written_in_time():
    began = time.monotonic()
    assert "387420489" in answer(r"\boxed{9^{387420489} \cdot 50\%}")
    assert time.monotonic() - began < 30


def test_so_does_one_that_sympy_cannot_write(monkeypatch):
    monkeypatch.setattr(mathematics, "_written", lambda _: 1 / 0)
    assert answer(r"\boxed{2+x}") == "2+x"


@pytest.mark.slow
def test_a_formula_too_large_to_evaluate_is_wrong_in_time():
    began = time.monotonic()
    assert MATH.check({"answer": "18"}, r"\boxed{9^{9^{9}}}") == (0.0, "9**(9**9)")
    assert time.monotonic() - began < 30


def test_of_several_marks_the_last_counts():
    assert mathematics.reference({"solution": "#### 7\nor more?\n#### 1,080"}) == r"\boxed{1080}"


@pytest.mark.parametrize(
    "solution",
    [
        r"a $\boxed{3}$ b $\boxed{5}$.",
        r"a \boxed{3} b \boxed{5}",
        r"We get \boxed{3} at first, but then, correcting the error, it is \boxed{5}.",
        r"Either $\boxed{3}$ or $\boxed{5}$.",
        r"$\boxed{3} x \boxed{5}$, as $x^{2}$ is 7",
    ],
)
def test_of_several_boxes_of_a_reference_the_last_counts(solution):
    for fields in ({"solution": solution}, {"answer": solution}):
        assert right(fields, r"\boxed{5}") == 1.0
        assert right(fields, r"\boxed{3, 5}") == 0.0


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"\boxed{3}. The final answer is 5", "5"),
        (r"The final answer is 5. Or \boxed{3}", "3"),
        (r"\boxed{3}. Answer: 5", "3"),
        ("Answer: 5. The answer is 3, or 4", "5"),
        ("The answer is 5, or 4", "5"),
        (r"a \boxed{3} b \boxed{5}", "{3, 5}"),
        (r"\boxed{3} and 2 + 2 = \boxed{5}", "{3, 5}"),
        (r"\boxed{3} does not fit \boxed{5}", "5"),
        (r"\boxed{3}, " + 67 * "a" + r"\boxed{5}", "{3, 5}"),
        (r"\boxed{3}, " + 68 * "a" + r"\boxed{5}", "5"),
        (r"$\boxed{3}$ and $\boxed{5}$", "{3, 5}"),
        (r"$\boxed{3}$, then $\boxed{5}$", "5"),
        (r"$\boxed{3}$, then $\boxed{5}$, as $x^{2}$", "{3, 5}"),
        (r"$\boxed{3} \text{ does not fit } \boxed{5}$", "{3, 5}"),
    ],
)
def test_what_math_verify_takes_of_a_response_is_as_our_pages_say(response, expected):
    assert answer(response) == expected
