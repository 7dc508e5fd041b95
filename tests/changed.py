"""The test modules that the change since main reaches: ``python -m tests.changed`` prints their paths, for CHANGED=1.

A module reaches the test modules that import it, also through others, in the graph that import-linter builds (grimp). A
file reaches the rooms that are named like one of its folders, too: they start programs and read files without imports.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
LEVELS = ("unit", "integration")
"""Those of the tests that are chosen. The third, tests/e2e, runs all of the product on a cluster."""


def reached(changed: Iterable[str], graph: grimp.ImportGraph, tests: Iterable[str]) -> set[str]:
    """Choose among test modules.

    :param changed: the paths of the files that changed, from the top of the repository.
    :param tests: the paths of all test modules.
    """
    chosen = set()
    for path in changed:
        if (test := Path(path)).name.startswith("test_") and test.parts[0] == "tests":
            chosen.add(path)
            continue
        module = module_of(path)
        importers = graph.find_downstream_modules(module) if module in graph.modules else set()
        folders = set(test.parts[:-1]) - {"tests", *LEVELS}
        chosen |= {test for test in tests if module_of(test) in importers or room_of(test) in folders}
    return chosen.intersection(tests)


def module_of(path: str) -> str:
    """The module of a Python file: ``spoke_jobs.web.app`` of ``runner/spoke_jobs/web/app.py``."""
    name = path.removeprefix("runner/").removeprefix("operator/").removesuffix(".py").removesuffix("/__init__")
    return name.replace("/", ".")


def room_of(test: str) -> str:
    """The room of a test module: ``web`` of ``tests/unit/web/pages/test_job_page.py``."""
    return test.split("/")[2]


def main() -> int:
    """Print the chosen paths, and on stderr what is left out."""
    changed = _changed()
    graph = grimp.build_graph("spoke_jobs", "spoke_jobs_operator", "tests", cache_dir=".import_linter_cache")
    tests = {str(path.relative_to(ROOT)) for level in LEVELS for path in (ROOT / "tests" / level).rglob("test_*.py")}
    chosen = reached(changed, graph, tests)
    left = Counter(room_of(test) for test in tests - chosen if "/" in test.removeprefix("tests/unit/"))
    rooms = ", ".join(f"{room} {count}" for room, count in sorted(left.items()))
    print(f"{len(changed)} changed files reach {len(chosen)} of {len(tests)} test modules.", file=sys.stderr)
    print(f"left out: tests/e2e, whatever needs the cluster, and of each room: {rooms}", file=sys.stderr)
    print(*sorted(chosen), sep="\n")
    return 0 if chosen else 1


def _changed() -> list[str]:
    base = _git("merge-base", "HEAD", "main")[0]
    return _git("diff", "--name-only", base) + _git("ls-files", "--others", "--exclude-standard")


def _git(*arguments: str) -> list[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


if __name__ == "__main__":
    sys.exit(main())
