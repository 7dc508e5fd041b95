"""The output of attempts that the ledger keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spoke_jobs.contract.names import CONTAINER
from spoke_jobs.explain.tries import Try
from spoke_jobs.explain.words import lines
from spoke_jobs.model import ContainerOutput


def titled(output: ContainerOutput, among: Sequence[ContainerOutput], most: int | None = None) -> Iterator[str]:
    """Yield the lines of a container's output, after a line with its name if there are several containers.

    :param most: the most lines to yield of its output.
    """
    if len(among) > 1 or output.container != CONTAINER:
        yield f"[container {output.container}]"
    yield from lines(output.text)[-most if most else 0 :]


def tail(item: Try, most: int | None = None) -> list[str]:
    """Return the lines of an attempt's output that the ledger keeps: what each container printed, and the traceback.

    :param most: the most lines of each container, and of the traceback.
    """
    kept = [text for output in item.outputs for text in titled(output, item.outputs, most)]
    trace = traceback(item)[-most if most else 0 :]
    if kept and trace and trace[-1] not in kept:
        kept.append("[traceback]")
    return kept if trace and trace[-1] in kept else kept + trace


def traceback(item: Try) -> list[str]:
    """Return the last lines of an attempt's traceback. If a worker ran it, what the job printed precedes it."""
    return lines(item.row.output_tail) if item.row else []
