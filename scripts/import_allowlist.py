"""A contract for import-linter: a package may import only the listed modules of another package.

import-linter's own contracts list the forbidden modules, so a new module of the other package would be allowed.
"""

from __future__ import annotations

import grimp
from importlinter import Contract, ContractCheck, fields, output


class AllowlistContract(Contract):
    """Fails for every direct import from ``source`` into ``target`` that is not of an ``allowed`` package."""

    type_name = "allowlist"

    source = fields.StringField()
    target = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Compare all imports from source into target with the list."""
        found = [
            f"{importer} -> {imported}"
            for importer in sorted(_package(graph, str(self.source)))
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if _is_in(imported, str(self.target)) and not any(_is_in(imported, str(name)) for name in self.allowed)  # type: ignore[attr-defined]
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the imports that are not allowed."""
        for line in check.metadata["found"]:
            output.print_error(line)


def _package(graph: grimp.ImportGraph, name: str) -> set[str]:
    return {name, *graph.find_descendants(name)}


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
