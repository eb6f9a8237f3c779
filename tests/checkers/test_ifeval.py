import json
import sys

import nltk
import pytest

from rbs_jax.checkers import ifeval
from rbs_jax.checkers.ifeval import (
    IFEVAL,
    IFEVAL_INSTRUCTIONS,
    IFEVAL_INSTRUCTIONS_LOOSE,
    IFEVAL_LOOSE,
    variants,
)
from rbs_jax.errors import UserError
from tests.checkers.made import sentences  # noqa: F401

pytestmark = pytest.mark.usefixtures("sentences")
GERMAN = "Das ist ein langer deutscher Satz, der niemandem etwas zuleide tut."
ENGLISH = "This is a long sentence in English, and it does no harm to anyone."
STARS = "******"
KINDS = [  # name, arguments, a response that follows, one that does not
    ("keywords:existence", {"keywords": ["red", "blue"]}, "Red and BLUE.", "Red and green."),
    (
        "keywords:frequency",
        {"keyword": "go", "frequency": 2, "relation": "at least"},
        "Go! go",
        "g",
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "Concatenate.", "A Cat."),
    (
        "keywords:letter_frequency",
        {"letter": "Q", "let_frequency": 2, "let_relation": "less than"},
        "A q.",
        "q and Q",
    ),
    ("language:response_language", {"language": "de"}, GERMAN, ENGLISH),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        "One. Two.",
        "One. Two. Three.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "a b c", "a b"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        "One.\n\nSo two.",
        "So one.\n\nTwo.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi\nP.S. more", "Hi, more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *b*", "*a* b"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1"),
    ("detectable_format:title", {}, "<<Poem>>\nIt goes.", "Poem\nIt goes."),
    ("combination:two_responses", {}, f"One.\n{STARS}\nTwo.", "One.\n***\nTwo."),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Say it."},
        "Say it. It is said.",
        "It is said.",
    ),
    ("startend:end_checker", {"end_phrase": "The end."}, "So it is. The end.", "The end. Or not"),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "SO it IS.",
        "SO it is.",
    ),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH.lower(), ENGLISH),
    ("punctuation:no_comma", {}, "No pause.", "No, pause."),
    ("startend:quotation", {}, '"All of it."', '"Some" of it.'),
]
NO_COMMA, TITLE = KINDS[-2], KINDS[16]
TWO_BULLETS = KINDS[11]


def line(*kinds):
    return {"instruction_id_list": [k[0] for k in kinds], "kwargs": [k[1] for k in kinds]}


def test_these_are_all_kinds():
    assert [name for name, *_ in KINDS] == list(dict.fromkeys(name for name, *_ in KINDS))
    assert {name for name, *_ in KINDS} == set(ifeval._kinds())
    assert len(KINDS) == 25


@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_each_kind_tells_what_follows_it(kind):
    *_, follows, fails = kind
    for checker in (IFEVAL, IFEVAL_INSTRUCTIONS, IFEVAL_LOOSE, IFEVAL_INSTRUCTIONS_LOOSE):
        assert checker.check(line(kind), follows) == (1.0, None)
    for checker in (IFEVAL, IFEVAL_INSTRUCTIONS):
        assert checker.check(line(kind), fails) == (0.0, None)
        assert checker.check(line(kind), " \n") == (0.0, None)


@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_arguments_that_are_null_are_as_if_not_there(kind):
    every = {key: None for _, arguments, *_ in KINDS for key in arguments}
    name, arguments, follows, fails = kind
    fields = line((name, every | arguments))
    assert [IFEVAL.check(fields, text).right for text in (follows, fails)] == [1.0, 0.0]


def test_as_the_library_judges():
    from lm_eval.tasks.ifeval import utils

    others = ["Sure, so:\n* *A* [b]\n\n<<C>>\nP.S. D", f"{ENGLISH}\n{STARS}\n{GERMAN}"]
    for name, arguments, *own in KINDS:
        line_of = utils.InputExample(0, [name], "", [arguments])
        fields = {"instruction_id_list": [name], "kwargs": [arguments]}
        for text in [*own, *others, *(f"Sure!\n{text}\nBye, *now*" for text in own)]:
            strict = utils.test_instruction_following_strict(line_of, text)
            loose = utils.test_instruction_following_loose(line_of, text)
            assert IFEVAL.check(fields, text).right == strict.follow_all_instructions
            assert IFEVAL_LOOSE.check(fields, text).right == loose.follow_all_instructions


def test_prompts_want_all_instructions_and_instructions_count_one_by_one():
    fields = line(NO_COMMA, TITLE)
    assert IFEVAL.check(fields, "<<A>> b").right == 1.0
    assert IFEVAL.check(fields, "<<A>>, b").right == 0.0
    assert IFEVAL_INSTRUCTIONS.check(fields, "<<A>>, b").right == 0.5
    assert IFEVAL_INSTRUCTIONS.check(fields, "A, b").right == 0.0
    assert IFEVAL_INSTRUCTIONS.weight(fields) == IFEVAL_INSTRUCTIONS_LOOSE.weight(fields) == 2
    assert IFEVAL.weight(fields) == IFEVAL_LOOSE.weight(fields) == 1


@pytest.mark.parametrize(
    ("response", "loose"),
    [
        ("Sure, here:\nNo pause.", 1.0),
        ("No pause.\nBye, now.", 1.0),
        ("Sure, here:\nNo pause.\nBye, now.", 1.0),
        ("Sure, here:\nA pause, so.\nBye, now.", 0.0),
        ("Sure, here:\nBye, now.", 0.0),  # nothing is left without both
    ],
)
def test_loosely_the_first_and_last_lines_may_go(response, loose):
    assert IFEVAL.check(line(NO_COMMA), response).right == 0.0
    assert IFEVAL_LOOSE.check(line(NO_COMMA), response).right == loose


def test_loosely_the_stars_may_go():
    quoted = line(KINDS[-1])
    assert IFEVAL.check(quoted, '**"All."**').right == 0.0
    assert IFEVAL_LOOSE.check(quoted, '**"All."**').right == 1.0
    assert IFEVAL_LOOSE.check(quoted, 'Sure:\n**"All."**\nBye').right == 1.0


def test_loosely_each_instruction_may_take_another_variant():
    fields = line(NO_COMMA, TWO_BULLETS)
    response = "Sure, here:\n* a\n- b"
    assert IFEVAL_LOOSE.check(fields, response).right == 1.0
    mixed = "* a\nb\n- c, d"  # without commas but for the last line, which is a bullet
    assert IFEVAL_INSTRUCTIONS.check(fields, mixed).right == 0.5
    assert IFEVAL_LOOSE.check(fields, mixed).right == 1.0


def test_the_eight_variants():
    assert variants("*a*\nb\nc") == [
        *("*a*\nb\nc", "b\nc", "*a*\nb", "b"),
        *("a\nb\nc", "b\nc", "a\nb", "b"),
    ]
    assert variants("a\n\nb\n\nc")[1:4] == ["b\n\nc", "a\n\nb", "b"]


def test_letters_that_are_none_are_counted():
    """The library draws another for them; two published lines have such ones."""
    name = "keywords:letter_frequency"
    for relation, rights in (("at least", [0.0, 1.0]), ("less than", [1.0, 0.0])):
        fields = line((name, {"letter": "#", "let_frequency": 2, "let_relation": relation}))
        for _ in range(20):
            found = [IFEVAL.check(fields, text).right for text in ("abc" * 9 + "#", "##")]
            assert found == rights


def test_a_language_is_the_same_each_time():
    """The library detects it by draws, and these are of two languages."""
    for language, text in {
        "de": "Das ist ein Satz von dieser Art. This is a sentence of this kind.",
        "fr": "C'est une phrase de ce genre. Det er en setning.",
        "it": "Questa è una frase. Dette er en sætning.",
    }.items():
        fields = line(("language:response_language", {"language": language}))
        assert len({IFEVAL.check(fields, text).right for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "'instruction_id_list' is no list of instructions"),
        ({"instruction_id_list": [], "kwargs": []}, "is no list of instructions"),
        ({"instruction_id_list": ["punctuation:no_comma"]}, "'kwargs' is no list with an object"),
        (line(TITLE) | {"kwargs": []}, "'kwargs' is no list with an object"),
        (line(("a:b", {})), "'a:b' is none of IFEval's 25 kinds"),
        (line((5, {})), "5 is none of IFEval's 25 kinds"),
        (line((TITLE[0], None)), "the kwargs of detectable_format:title are no object"),
        (line((TITLE[0], {"n": 1})), "{'n': 1}; it takes none"),
        (line((TWO_BULLETS[0], {})), r"{}; it takes \['num_bullets'\]"),
        (line((TWO_BULLETS[0], {"num_bullets": None})), r"{}; it takes \['num_bullets'\]"),
        (line((TWO_BULLETS[0], {"num_bullets": -1})), "{'num_bullets': -1}, are not taken"),
        (line((TWO_BULLETS[0], {"num_bullets": "2"})), "{'num_bullets': '2'}, are not taken"),
        (
            line(("length_constraints:number_words", {"num_words": 2, "relation": "above"})),
            "are not taken: The supported relation",
        ),
        (line(("language:response_language", {"language": "xx"})), "are not taken: 'xx'"),
    ],
)
def test_lines_that_are_not_ifevals_are_refused(fields, message):
    for checker in (IFEVAL, IFEVAL_INSTRUCTIONS_LOOSE):
        with pytest.raises(UserError, match=message):
            checker.check(json.loads(json.dumps(fields)), "text")


def test_a_package_that_is_missing_is_named(monkeypatch):
    there = {"lm_eval": object(), "langdetect": None, "immutabledict": object(), "nltk": None}
    monkeypatch.setattr(ifeval, "find_spec", there.get)
    with pytest.raises(UserError, match=r"need langdetect, nltk: pip install 'rbs_jax\[ifeval\]'"):
        IFEVAL.ready()


def test_data_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"python -m nltk\.downloader punkt_tab"):
        IFEVAL_LOOSE.ready()


def test_nothing_of_it_is_needed_for_other_checkers():
    import subprocess

    said = (
        "import sys, rbs_jax.checkers.table; print({'nltk', 'lm_eval', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
