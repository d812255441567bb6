"""The language of filters: a boolean expression as GoogleSQL (ZetaSQL) writes it.

The grammar is LALR(1): a text of n words is read in n steps and without recursion. Both n and the depth are bounded.
"""

from functools import cache
from typing import Any, Final

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

from mdstore.store.filterquery import literals
from mdstore.store.filterquery.syntax import Apply, FilterFault, Name, Syntax, Value, applied, fault, grouped

MOST_CHARACTERS: Final = 128 * 1024
MOST_TOKENS: Final = 12_000

_GRAMMAR: Final = r"""
?start: disjunction

?disjunction: conjunction | conjunction (_OR conjunction)+ -> any_of
?conjunction: negation | negation (_AND negation)+ -> all_of
?negation: comparison | NOT negation -> prefix

?comparison: sum
    | sum COMPARE sum -> infix
    | sum LIKE sum -> infix
    | sum NOT LIKE sum -> negated_infix
    | sum IN "(" items ")" -> in_list
    | sum NOT IN "(" items ")" -> not_in_list
    | sum BETWEEN sum _AND sum -> between
    | sum NOT BETWEEN sum _AND sum -> not_between
    | sum IS TEST -> is_test
    | sum IS NOT TEST -> is_not_test

items: disjunction ("," disjunction)* | _SELECT disjunction

?sum: product | sum (PLUS | MINUS) product -> infix
?product: factor | product (STAR | SLASH | CONCAT) factor -> infix
?factor: atom | (PLUS | MINUS) factor -> prefix

?atom: STRING -> string
    | INTEGER -> integer
    | DOUBLE -> double
    | TEST -> constant
    | PATH -> name
    | PATH "(" [disjunction ("," disjunction)*] ")" -> call
    | LEFT_PARENTHESIS disjunction ")" -> group
    | LEFT_PARENTHESIS _SELECT disjunction ")" -> group
    | EXISTS "(" _SELECT disjunction ")" -> exists
    | CAST "(" disjunction _AS PATH ")" -> cast
    | CASE when+ [_ELSE disjunction] _END -> searched_case
    | CASE disjunction when+ [_ELSE disjunction] _END -> simple_case
when: _WHEN disjunction _THEN disjunction

_OR: "OR"i
_AND: "AND"i
NOT: "NOT"i
IN: "IN"i
LIKE: "LIKE"i
BETWEEN: "BETWEEN"i
IS: "IS"i
EXISTS: "EXISTS"i
_SELECT: "SELECT"i
CAST: "CAST"i
_AS: "AS"i
CASE: "CASE"i
_WHEN: "WHEN"i
_THEN: "THEN"i
_ELSE: "ELSE"i
_END: "END"i
TEST.1: /(NULL|TRUE|FALSE|UNKNOWN)(?![\w.(])/i

COMPARE: "=" | "!=" | "<>" | "<=" | ">=" | "<" | ">"
PLUS: "+"
MINUS: "-"
STAR: "*"
SLASH: "/"
CONCAT: "||"
LEFT_PARENTHESIS: "("

PATH: /([a-z_][0-9a-z_]*|`(?:[^`\\\r\n]|\\[^\r\n])+`)(\.([0-9a-z_]+|`(?:[^`\\\r\n]|\\[^\r\n])+`))*/i
STRING.2: /r?('{3}(?:[^\\]|\\.)*?'{3}|"{3}(?:[^\\]|\\.)*?"{3})/is
    | /r?('(?:[^'\\\r\n]|\\[^\r\n])*'|"(?:[^"\\\r\n]|\\[^\r\n])*")/i
INTEGER: /(0x[0-9a-f]+|[0-9]+)(?![\w.])/i
DOUBLE: /([0-9]+\.[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|[0-9]+e[+-]?[0-9]+)(?!\w)/i

%ignore /[ \t\r\n\f\v]+/
%ignore /(--|#)[^\n]*/
%ignore /\/\*.*?\*\//s
"""


class _Builder(Transformer[Token, Syntax]):
    """Makes the tree while the parser goes along."""

    def _all(self, op: str, parts: list[Any]) -> Apply:
        return applied(op, parts, parts[1].at)

    def any_of(self, parts: list[Any]) -> Syntax:
        return self._all("or", parts)

    def all_of(self, parts: list[Any]) -> Syntax:
        return self._all("and", parts)

    def prefix(self, parts: list[Any]) -> Syntax:
        sign, operand = parts
        at = sign.start_pos
        if sign == "-":
            number = operand.value if isinstance(operand, Value) else None
            if isinstance(number, int | float) and not isinstance(number, bool):
                # A literal, so that the smallest integer can be written at all.
                return _number(-number, at)
            return applied("negate", [operand], at)
        return applied("plus" if sign == "+" else "not", [operand], at)

    def infix(self, parts: list[Any]) -> Syntax:
        left, sign, right = parts
        return applied(sign.lower(), [left, right], sign.start_pos)

    def negated_infix(self, parts: list[Any]) -> Syntax:
        left, negation, sign, right = parts
        return applied("not", [applied(sign.lower(), [left, right], sign.start_pos)], negation.start_pos)

    def items(self, parts: list[Any]) -> list[Any]:
        return parts

    def in_list(self, parts: list[Any]) -> Syntax:
        operand, sign, items = parts
        return applied("in", [operand, *items], sign.start_pos)

    def not_in_list(self, parts: list[Any]) -> Syntax:
        operand, _, sign, items = parts
        return applied("not in", [operand, *items], sign.start_pos)

    def between(self, parts: list[Any]) -> Syntax:
        operand, sign, low, high = parts
        return applied("between", [operand, low, high], sign.start_pos)

    def not_between(self, parts: list[Any]) -> Syntax:
        operand, negation, sign, low, high = parts
        return applied("not", [applied("between", [operand, low, high], sign.start_pos)], negation.start_pos)

    def is_test(self, parts: list[Any]) -> Syntax:
        operand, sign, test = parts
        return applied(f"is {test.lower()}", [operand], sign.start_pos)

    def is_not_test(self, parts: list[Any]) -> Syntax:
        operand, sign, _, test = parts
        return applied("not", [applied(f"is {test.lower()}", [operand], sign.start_pos)], sign.start_pos)

    def string(self, parts: list[Any]) -> Syntax:
        return Value(literals.string(parts[0], parts[0].start_pos), parts[0].start_pos)

    def integer(self, parts: list[Any]) -> Syntax:
        return Value(literals.integer(parts[0], parts[0].start_pos), parts[0].start_pos)

    def double(self, parts: list[Any]) -> Syntax:
        return Value(literals.double(parts[0], parts[0].start_pos), parts[0].start_pos)

    def constant(self, parts: list[Any]) -> Syntax:
        word = parts[0].lower()
        if word == "unknown":
            return Name((str(parts[0]),), (False,), parts[0].start_pos)
        return Value({"null": None, "true": True, "false": False}[word], parts[0].start_pos)

    def name(self, parts: list[Any]) -> Syntax:
        return _path(parts[0])

    def call(self, parts: list[Any]) -> Syntax:
        path = _path(parts[0])
        if len(path.parts) > 1:
            fault(f"there is no function {path}", path.at)
        return applied(f"{path.parts[0].lower()}()", [part for part in parts[1:] if part is not None], path.at)

    def group(self, parts: list[Any]) -> Syntax:
        return grouped(parts[1], parts[0].start_pos)

    def exists(self, parts: list[Any]) -> Syntax:
        # One row without a table: it is there, whatever it holds.
        known = applied("is null", [parts[1]], parts[0].start_pos)
        return applied("not", [applied("is null", [known], parts[0].start_pos)], parts[0].start_pos)

    def cast(self, parts: list[Any]) -> Syntax:
        sign, operand, type_name = parts
        return applied(f"cast as {type_name.lower()}", [operand], sign.start_pos)

    def when(self, parts: list[Any]) -> list[Any]:
        return parts

    def searched_case(self, parts: list[Any]) -> Syntax:
        sign, *whens, otherwise = parts
        return applied("case", _branches(whens, otherwise, sign), sign.start_pos)

    def simple_case(self, parts: list[Any]) -> Syntax:
        sign, operand, *whens, otherwise = parts
        return applied("case of", [operand, *_branches(whens, otherwise, sign)], sign.start_pos)


def _branches(whens: list[Any], otherwise: Syntax | None, sign: Token) -> list[Any]:
    end = otherwise if otherwise is not None else Value(None, sign.start_pos or 0)
    return [part for when in whens for part in when] + [end]


def _number(value: int | float, at: int) -> Value:
    if isinstance(value, int) and value < -(2**63):
        fault(f"{value} is beyond 64 bits", at)
    return Value(value, at)


def _path(token: Token) -> Name:
    at = token.start_pos or 0
    parts = [literals.name(match, at) for match in _parts(str(token))]
    return Name(tuple(part for part, _ in parts), tuple(quoted for _, quoted in parts), at)


def _parts(text: str) -> list[str]:
    """A dotted name at its dots outside of backquotes."""
    found: list[str] = []
    start = place = 0
    while place < len(text):
        if text[place] == "`":
            place += 1
            while text[place] != "`":
                place += 2 if text[place] == "\\" else 1
        elif text[place] == ".":
            found.append(text[start:place])
            start = place + 1
        place += 1
    return [*found, text[start:]]


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=_Builder())


def parse(text: str) -> Syntax:
    """Read a filter.

    Raises:
        FilterFault: it is not one.
    """
    if len(text) > MOST_CHARACTERS:
        fault(f"the filter has {len(text)} characters, and {MOST_CHARACTERS} are allowed", 0, "ask in several calls")
    parser = _parser().parse_interactive(text)
    try:
        for number, token in enumerate(parser.iter_parse()):
            if number >= MOST_TOKENS:
                fault(f"more than {MOST_TOKENS} words", token.start_pos or 0, "ask in several calls")
        found: Syntax = parser.feed_eof()  # type: ignore[no-untyped-call]  # lark's gap
    except VisitError as error:
        if isinstance(error.orig_exc, FilterFault):
            raise error.orig_exc from None
        raise
    except UnexpectedInput as error:
        raise explained(text, error) from None
    return found


_INSTEAD: Final = (
    ("==", "write ="),
    ("&&", "write AND"),
    ("%", "write mod(a, b)"),
    ("!", "write NOT, or != without a space"),
    (";", "leave it out"),
    ("?", "write the value itself: there are no parameters"),
    ("@", "write the value itself: there are no parameters"),
    ("//", "comments are -- or # to the end of the line, or /* .. */"),
    ("/*", "end the comment by */"),
    ("^", "there are no operators on bits"),
    ("~", "there are no operators on bits"),
    ("&", "there are no operators on bits; and is AND"),
    ("|", "there are no operators on bits; or is OR"),
    ("'", "end the string by the quote that began it; one with several lines has three"),
    ('"', "end the string by the quote that began it; one with several lines has three"),
    ("`", "a name in backquotes needs at least one character and ends with a backquote"),
    (")", "take it out, or open it before"),
    ("[", "there are no arrays"),
    (".", "write the parts of a name without spaces between them, and other characters in backquotes"),
)
_INSTEAD_OF_WORDS: Final = {
    "ilike": "write LIKE, which takes upper and lower case for the same",
    "xor": "write (a) != (b)",
    "regexp": "write LIKE",
    "rlike": "write LIKE",
    "similar": "write LIKE",
    "escape": r"in a pattern \\ before % or _ takes away its meaning",
    "collate": "= looks at upper and lower case, LIKE does not",
    "distinct": "write = or IS NULL",
    "any": "write IN (..)",
    "all": "write IN (..)",
    "some": "write IN (..)",
    "unnest": "write IN (..)",
    "select": "a filter is an expression such as name = 'x'",
    "from": "write contexts_X, events_X or another neighbour's columns",
    "limit": "say max_result_size in the options",
    "order": "say order_by_field in the options",
    "union": "write OR",
}


def explained(text: str, error: UnexpectedInput) -> FilterFault:
    """What the parser could not go on with, in words for whoever wrote the filter."""
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return FilterFault("the filter ends in the middle", len(text), "write the rest, or close the parentheses")
    at = int(error.pos_in_stream or 0)
    if isinstance(error, UnexpectedToken):
        token = str(error.token)
        word = token.lower()
        previous = text[at - 1 : at + 1] if at else ""
        if previous in ("==", "&&"):
            return FilterFault(f"{previous} is no operator", at - 1, dict(_INSTEAD)[previous])
        if error.token.type == "COMPARE":
            return FilterFault(f"{token} cannot follow here", at, "put the comparison before it in parentheses")
        if error.token.type in ("IS", "IN", "LIKE", "BETWEEN"):
            return FilterFault(f"{token.upper()} cannot follow here", at, "put what is before it in parentheses")
        if error.token.type == "STRING":
            if at and text[at - 1].lower() == "b":
                return FilterFault("there are no bytes", at - 1, "write a string")
            hint = "a quote inside a string is written \\'; there are no dates, times or other kinds of strings"
            return FilterFault(f"the string {_shortened(token)} is not expected here", at, hint)
        if word in _INSTEAD_OF_WORDS:
            return FilterFault(f"{token} is not known here", at, _INSTEAD_OF_WORDS[word])
    for start, instead in _INSTEAD:
        if text.startswith(start, at):
            return FilterFault(f"{_shortened(text[at:])} is not expected here", at, instead)
    if isinstance(error, UnexpectedCharacters):
        return FilterFault(
            f"{_shortened(text[at:])} is not expected here",
            at,
            "a number and a word need a space between them; names with other characters stand in backquotes",
        )
    return FilterFault(f"{_shortened(text[at:])} is not expected here", at, "is an operator such as AND missing?")


def _shortened(text: str) -> str:
    word = text.split(maxsplit=1)[0] if text.split(maxsplit=1) else text[:1]
    return word if len(word) <= 20 else word[:20] + ".."
