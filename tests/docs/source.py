"""What the source says about the parts of a class beside their types: the text and the remarks that stand with them."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

_BOUND = re.compile(r"typing\.Annotated\[((?:[^\[\]]|\[[^\[\]]*\])*?), msgspec\.Meta\([^()]*\)\]")
_ATTRIBUTES = re.compile(r"^(\w+(?:, \w+)*): (.*)$")


def remarks(kind: type) -> dict[str, str]:
    """By the name of a member: the remark behind it, or the text below it."""
    lines, begins = inspect.getsourcelines(kind)
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind) or kind))
    body = next(
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.lineno in range(begins, begins + 3)
    )
    found: dict[str, str] = {}
    for number, node in enumerate(body):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        target = node.targets[0] if isinstance(node, ast.Assign) else target
        if not isinstance(target, ast.Name):
            continue
        below = body[number + 1] if number + 1 < len(body) else None
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[target.id] = plain(below.value.value)
        else:
            _, has_remark, remark = lines[node.lineno - begins].partition("  # ")
            found[target.id] = "" if not has_remark or remark.startswith("noqa") else remark.strip()
    return found


def attributes(kind: type) -> dict[str, str]:
    """By the name of a field: what the docstring says of it under ``Attributes:``."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        begins = _ATTRIBUTES.match(line)
        if begins is not None:
            names = begins[1].split(", ")
            found |= dict.fromkeys(names, begins[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: plain(said) for name, said in found.items()}


def summary(kind: object) -> str:
    """The first paragraph of a docstring."""
    return plain((inspect.getdoc(kind) or "").partition("\n\n")[0])


def body(kind: object) -> str:
    """The whole docstring, its paragraphs one behind the other."""
    return plain(inspect.getdoc(kind) or "")


def plain(text: str) -> str:
    """A docstring as Markdown: one line, code in single marks."""
    text = re.sub(r":(?:class|data|func|meth|mod):`~?\.?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return " ".join(text.split())


def type_text(kind: Any) -> str:  # noqa: ANN401 - any annotation
    """A type as people read it."""
    text = str(kind) if not isinstance(kind, type) or getattr(kind, "__args__", None) else kind.__name__
    while (shorter := _BOUND.sub(r"\1", text)) != text:
        text = shorter
    text = re.sub(r"\b(?:[a-z_]+\.)+([A-Za-z_]+)", r"\1", text)
    text = re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)
    return text.replace("NoneType", "None").replace("tuple[str, ...]", "list of str").replace(" | None", ", or none")


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table."""
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*cells) for cells in rows)]) + "\n"


REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
