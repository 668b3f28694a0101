"""Expressions over the values of a point."""

import pytest

from mmhydra.sweep.study.filters import Filter, FilterFault

POINT = {"model": "1b", "optim.lr": 1e-3, "seed": 43, "parallel.dp": "auto", "data.sources.0.weight": 0.5, "tag": None}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("optim.lr * 2 < 1 or model == '100m'", True),
        ("optim.lr == 1e-3", True),
        ("1e-4 < optim.lr < 1e-3", False),
        ("model in ['100m', '1b'] and not seed in (42, 44)", True),
        ("'1' in model", True),
        ("data.sources[0].weight >= 0.5", True),
        ("tag == null", True),
        ("parallel.dp == 'auto'", True),
        ("parallel.dp == 8", False),
        ("seed == 42 if model == '1b' else true", False),
        ("round(log10(optim.lr)) == -3", True),
        ("max(optim.lr, 1) == 1", True),
        ("model == '1b' or no.such.key > 1", True),  # never asked for
    ],
)
def test_answers(text: str, answer: bool) -> None:
    assert Filter(text).holds(POINT) is answer


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model == 1b", "text needs quotes"),
        ("", "no expression"),
        ("model = '1b'", "no expression"),
        ("x := 3", "no expression"),
        ("rand() < 0.5", "no such function rand; legal: abs"),
        ("__import__('os')", "no such function __import__"),
        ("model.upper() == '1B'", r"no such function model\.upper"),
        ("[one for one in model]", "is not read here; legal are and, or, not"),
        ("f'{model}' == '1b'", "is not read here"),
        ("(lambda: 1)() == 1", "is not read here"),
        ("int(model, base=3) == 1", "is not read here"),
        ("model[seed] == '1'", "is not read here"),
        ("seed << 99 > 1", "is not read here"),
    ],
)
def test_what_is_no_expression(text: str, told: str) -> None:
    with pytest.raises(FilterFault, match=told):
        Filter(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optm.lr < 1", "no value for optm.lr; did you mean optim.lr"),
        ("nope == 1", "Names there are: data.sources.0.weight, model, optim.lr, parallel.dp, seed, tag"),
        ("optim.lr", "0.001, which is neither true nor false"),
        ("model < 3", "not supported between"),
        ("seed == '43'", "the text '43' is compared with the number 43; leave out the quotes"),
        ("seed in ['42', '43']", "leave out the quotes"),
        ("optim.lr / 0 > 1", "division by zero"),
        ("seed ** 9 ** 9 > 1", "has no answer"),
    ],
)
def test_no_answer(text: str, told: str) -> None:
    with pytest.raises(FilterFault, match=told):
        Filter(text).holds(POINT)


def test_names_are_those_of_values() -> None:
    assert Filter("max(optim.lr, seed) > data.sources[0].weight and true").names == {
        "optim.lr",
        "seed",
        "data.sources.0.weight",
    }
