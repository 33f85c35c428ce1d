"""``python3 -m tvm_flow.bench.usage [NAME]``: what the benches measure and take, by any Python and without a package.

The benches import torch and onnxruntime, and help must not wait for their installation: it is read from the sources.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent


def usage(name: str | None) -> str:
    """Help for the bench ``name``, or the list of all for another name."""
    benches = {path.stem: path for path in sorted(_FOLDER.glob("*.py")) if _title(path)}
    if name not in benches:
        lines = [f"  {bench:<5} {_title(path)}" for bench, path in benches.items()]
        return "\n".join(["usage: scripts/bench NAME [options]; NAME --help tells more", "", *lines])
    tree = ast.parse(benches[name].read_text(encoding="utf-8"))
    options = [line for node in ast.walk(tree) if isinstance(node, ast.Call) for line in _option(node)]
    return "\n".join([ast.get_docstring(tree) or "", "", "options:", *(options or ["  none"])])


def _title(path: Path) -> str:
    """What a bench says that it is: its docstring's first sentence behind its command; nothing for other files."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    command = f"``scripts/bench {path.stem}``: "
    return text.partition("\n\n")[0].replace("\n", " ").removeprefix(command) if text.startswith(command) else ""


def _option(call: ast.Call) -> list[str]:
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "add_argument":
        return []
    flags = [part.value for part in call.args if isinstance(part, ast.Constant)]
    words = [key.value.value for key in call.keywords if key.arg == "help" and isinstance(key.value, ast.Constant)]
    return [f"  {' '.join(map(str, flags)):<13} {' '.join(map(str, words))}"]


if __name__ == "__main__":
    print(usage(sys.argv[1] if len(sys.argv) > 1 else None))
