"""Which sources decide what a module does: its own and those of every module that it can reach by imports.

Read from the text of the modules, without importing them. An import counts wherever it stands, inside a function too.
What Python ignores is ignored here: comments, docstrings and layout decide nothing. C files, of which a module reaches
all when it reaches the compiler, count by their bytes, as does the license that goes with them.
Another Python may spell a syntax tree differently, and then makes outputs again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
COMPILER = "toolchain"
"""The part of the package that runs a C compiler: only what reaches it depends on C."""


@functools.cache
def package_modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        *folders, name = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(folders if name == "__init__" else (*folders, name))] = path
    return modules


@functools.cache
def imported_modules(module: str, package: Path = PACKAGE) -> frozenset[str]:
    """The modules of the package that ``module`` imports; ``from a import b`` imports a.b where that is a module."""
    modules = package_modules(package)
    return frozenset(name for name in _named(_tree(modules[module]), modules) if name != module)


def reached_modules(module: str, package: Path = PACKAGE) -> frozenset[str]:
    """``module``, what it imports, what that imports and so on, and the packages that all these lie in."""
    reached: set[str] = set()
    todo = {module}
    while todo:
        each = todo.pop()
        reached.add(each)
        todo |= (imported_modules(each, package) | _packages_of(each)) - reached
    return frozenset(reached)


@functools.cache
def sources_sha256(module: str, package: Path = PACKAGE) -> str:
    """Of all that decides what ``module`` does: another state of it makes the module's outputs again."""
    modules, reached, digest = package_modules(package), reached_modules(module, package), hashlib.sha256()
    for name in sorted(reached):
        digest.update(f"{name}\0".encode() + _tree_sha256(modules[name]))
    if f"{package.name}.{COMPILER}" in reached:
        for path in sorted(path for name in ("*.c", "*.h", "LICENSE") for path in package.rglob(name)):
            digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _packages_of(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def _named(tree: ast.AST, modules: dict[str, Path]) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            members = {f"{node.module}.{alias.name}": alias.name for alias in node.names}
            yield from (name for name in members if name in modules)
            if any(name not in modules for name in members):
                yield node.module


@functools.cache
def _tree(path: Path) -> ast.Module:
    """Without strings that stand alone as statements: docstrings of modules, classes, functions and fields."""
    tree = ast.parse(path.read_text(), str(path))
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return tree


@functools.cache
def _tree_sha256(path: Path) -> bytes:
    return hashlib.sha256(ast.dump(_tree(path)).encode()).digest()


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and all statements in it, with handlers and cases; not the expressions, which are many times as many."""
    yield node
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        below = getattr(node, name, ())
        for each in below if isinstance(below, list) else ():
            yield from _statements(each)


def _is_text(statement: ast.stmt) -> bool:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
        return False
    return isinstance(statement.value.value, str)
