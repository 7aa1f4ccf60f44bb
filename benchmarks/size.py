"""Lines of code by package: without docstrings, comments and blank lines.

python -m benchmarks.size [FOLDER]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Return the number of lines of a module that have code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for token in tokens if token.type not in IGNORED for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "rmbg")
    files, lines = Counter[str](), Counter[str]()
    for path in root.rglob("*.py"):
        package = path.relative_to(root).parts[0] if path.parent != root else "."
        files[package] += 1
        lines[package] += code_lines(path.read_text(encoding="utf-8"))
    for package in sorted(files):
        print(f"{package:12} {files[package]:4} files {lines[package]:6,} lines")
    print(f"{'all':12} {files.total():4} files {lines.total():6,} lines")


if __name__ == "__main__":
    main()
