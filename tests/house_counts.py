"""What the limits of the house are about, counted in the source of a package: names, folders, words and imports."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grimp

PARTICIPLES = ("found", "known", "made", "wanted")
RIDDLES = re.compile(r"\b(nobody|somebody|whoever|told)\b", re.IGNORECASE)


def modules(package: Path) -> dict[str, Path]:
    """Dotted name, without the package's own, to file: "media.video" of `media/video.py`; packages are left out."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
        if not path.name.startswith("__")
    }


def class_names_twice(package: Path) -> dict[str, int]:
    """Class names without a leading underscore that stand for two things or more, and for how many."""
    names = Counter(
        node.name
        for path in package.rglob("*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return {name: count for name, count in names.items() if count > 1}


def modules_per_folder(package: Path) -> Counter[str]:
    """Modules in each folder, the package's own folder "." among them; `__init__` and `__main__` are not counted."""
    return Counter(str(path.parent.relative_to(package)) for path in modules(package).values())


def participles(paths: list[Path]) -> int:
    """Assignments to a variable that is called by a participle of `PARTICIPLES`, loops and walrus among them."""
    return sum(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in PARTICIPLES
        for path in paths
        for node in ast.walk(_tree(path))
    )


def riddles(package: Path) -> int:
    """Words of `RIDDLES` in the source and the cards of a package."""
    texts = (path.read_text(encoding="utf-8") for path in package.rglob("*") if path.suffix in (".py", ".md"))
    return sum(len(RIDDLES.findall(text)) for text in texts)


def imports_at_once(folder: Path, module: str) -> list[str]:
    """Files that import a module or part of it when they are imported themselves, as `name.py:line`."""
    return [
        f"{path.name}:{node.lineno}"
        for path in sorted(folder.rglob("*.py"))
        for node in _at_once(_tree(path))
        if any(name.partition(".")[0] == module for name in _imported(node))
    ]


def circles(package: str) -> list[set[str]]:
    """Modules that import one another in a circle; imports in functions and for type checkers count."""
    return _circles(grimp.build_graph(package, cache_dir=None))


def circles_of_rooms(package: str) -> list[set[str]]:
    """Rooms, the modules and folders at the top of a package, that import one another in a circle."""
    graph = grimp.build_graph(package, cache_dir=None)
    for room in graph.find_children(package):
        graph.squash_module(room)
    return _circles(graph)


def _circles(graph: grimp.ImportGraph) -> list[set[str]]:
    """Strongly connected components of more than one module, by name."""
    below = {module: graph.find_upstream_modules(module) for module in graph.modules}
    groups = {
        frozenset({module} | {other for other in reached if module in below[other]})
        for module, reached in below.items()
    }
    return [set(group) for group in sorted(groups, key=sorted) if len(group) > 1]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _at_once(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs at import: everything but functions' bodies and `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _at_once(node)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
