"""Expressions of a study: `optim.lr * 2 < 1 or model == '1b'`, over the values that a point is made of."""

import ast
import math
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from simpleeval import DEFAULT_OPERATORS, InvalidExpression, NameNotDefined, SimpleEval

from mmhydra.config.typed import nearest
from mmhydra.sweep.study.values import typed

_FUNCTIONS = {
    "abs": abs,
    "float": float,
    "int": int,
    "len": len,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
    "str": str,
}
_WORDS = {"true": True, "false": False, "null": None}  # as in YAML and on a command line
_LEGAL = (
    *(ast.Expression, ast.Name, ast.Constant, ast.Load, ast.Call, ast.List, ast.Tuple, ast.Compare, ast.IfExp),
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub, ast.Mult),
    *(ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
)


class FilterFault(ValueError):
    """An expression that can't be read, or that has no answer for a point."""


class Filter:
    """One expression. `names` are the values that it asks for, by their dotted names."""

    def __init__(self, text: str) -> None:
        """Raises FilterFault for what is no expression of the few forms that are legal."""
        self.text = text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)  # `1b`, which is an error right after
                tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise FilterFault(f"{text!r} is no expression ({reason}); text needs quotes, as in model == '1b'") from None
        self._tree = ast.fix_missing_locations(_Dotted().visit(tree)).body
        self.names = self._checked()
        self._evaluator = SimpleEval(operators=dict(_OPERATORS), functions=dict(_FUNCTIONS))
        self._evaluator.nodes |= {ast.List: self._several, ast.Tuple: self._several}

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a point passes. Raises FilterFault that names the expression if there is no answer."""
        for name in self.names:
            if isinstance(text := values.get(name), str) and "${" in text:
                raise FilterFault(f"{self.text!r} has no answer: {name} is {text}, known once a point is composed")
        self._evaluator.names = {**_WORDS, **values}
        try:
            answer = self._evaluator.eval(self.text, previously_parsed=self._tree)
        except (InvalidExpression, ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
            reason = unknown_name(error.name, values) if isinstance(error, NameNotDefined) else str(error)
            raise FilterFault(f"{self.text!r} has no answer: {reason}") from error
        if not isinstance(answer, bool):
            raise FilterFault(
                f"{self.text!r} is {answer!r}, which is neither true nor false; compare it with something"
            )
        return answer

    def _checked(self) -> frozenset[str]:
        called = {node.func for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        names = set()
        for node in ast.walk(self._tree):
            if not isinstance(node, _LEGAL) or (isinstance(node, ast.Call) and node.keywords):
                part = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
                raise FilterFault(
                    f"{self.text!r}: {part} is not read here; legal are and, or, not, comparisons, in [...], "
                    f"arithmetic and {', '.join(_FUNCTIONS)}"
                )
            if isinstance(node, ast.Name) and node not in called and node.id not in _WORDS:
                names.add(node.id)
        for function in called:
            if not isinstance(function, ast.Name) or function.id not in _FUNCTIONS:
                raise FilterFault(
                    f"{self.text!r}: no such function {ast.unparse(function)}; legal: {', '.join(_FUNCTIONS)}"
                )
        return frozenset(names)

    def _several(self, node: ast.List | ast.Tuple) -> list[Any]:
        return [self._evaluator._eval(item) for item in node.elts]


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The message for a name that a point has no value for."""
    known = sorted(known)
    near = [key for key in nearest(name, known) if key in known] or get_close_matches(name, known, 1)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"no value for {name}; {meant}Names there are: {', '.join(known) or 'none'}"


def _equal(one: Any, other: Any) -> bool:
    """A number in quotes never equals a number, so to ask for it is a mistake; `auto` beside numbers is none."""
    for text, number in ((one, other), (other, one)):
        if isinstance(text, str) and isinstance(number, int | float) and not isinstance(typed(text), str):
            raise TypeError(f"the text {text!r} is compared with the number {number!r}; leave out the quotes")
    return bool(one == other)


_OPERATORS = DEFAULT_OPERATORS | {
    ast.Eq: _equal,
    ast.NotEq: lambda one, other: not _equal(one, other),
    ast.In: lambda one, several: _is_in(one, several),
    ast.NotIn: lambda one, several: not _is_in(one, several),
}


def _is_in(one: Any, several: Any) -> bool:
    return one in several if isinstance(several, str) else any(_equal(one, item) for item in several)


class _Dotted(ast.NodeTransformer):
    """Makes one name of `optim.lr`, and of `data.sources[0].weight` the name `data.sources.0.weight`."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._as_name(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return self._as_name(node)

    def _as_name(self, node: ast.expr) -> ast.AST:
        parts: list[str] = []
        inner = node
        while not isinstance(inner, ast.Name):
            if isinstance(inner, ast.Attribute):
                parts.append(inner.attr)
                inner = inner.value
            elif isinstance(inner, ast.Subscript) and isinstance(inner.slice, ast.Constant):
                parts.append(str(inner.slice.value))
                inner = inner.value
            else:
                return node  # of no legal form, which is told by whoever looks at all nodes
        return ast.Name(id=".".join([inner.id, *reversed(parts)]), ctx=ast.Load())
