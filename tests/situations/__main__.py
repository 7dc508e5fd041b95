"""Make the situations, and record them. Arguments: the folder of the outputs, and numbers, to make only these.

Those that concern one PodTemplate are made a few at a time, and those that concern the namespace one after another.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import CLUSTER, built_images, image_values, installed, packed_chart, running_cluster
from tests.exclusive import exclusive
from tests.leftovers import remove_leftovers

from spoke_jobs import registry

from . import (
    outages,  # noqa: F401 (declares)
    pods,  # noqa: F401 (declares)
    rules,  # noqa: F401 (declares)
    shop_jobs,
)
from .play import Play, Shop, sightings_of
from .situation import SITUATIONS, Situation

AT_A_TIME = int(os.environ.get("AT_A_TIME", "4"))
SEED = 15
"""Of the numbers: they say nothing, and stay the same while no situation is added."""


@dataclass(frozen=True)
class Result:
    """What the key says of one that was made."""

    took: float | None
    problem: str


def main() -> None:
    """See the module."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.situations FOLDER [NUMBER...]")
    folder, wanted = Path(sys.argv[1]), {int(number) for number in sys.argv[2:]}
    records = folder / "records"
    records.mkdir(parents=True, exist_ok=True)
    numbers = list(range(1, len(SITUATIONS) + 1))
    random.Random(SEED).shuffle(numbers)
    numbered = dict(zip(numbers, SITUATIONS, strict=True))
    chosen = {number: item for number, item in numbered.items() if not wanted or number in wanted}
    with ExitStack() as stack:
        stack.enter_context(exclusive(f"{CLUSTER}-situations"))  # they share a node's labels and a port
        shop = opened(stack, records)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            together = {number: item for number, item in chosen.items() if not item.alone}
            results = dict(pool.map(lambda pair: (pair[0], played(shop, *pair)), together.items()))
        for number, item in chosen.items():
            if item.alone:
                results[number] = played(shop, number, item)
    path = folder / "key.txt"
    earlier = path.read_text().strip().split("\n\n") if path.exists() and wanted else []
    entries = {int(entry[:2]): entry for entry in earlier}
    entries |= {number: key(number, item, results[number]) for number, item in chosen.items()}
    path.write_text("\n\n".join(entries[number] for number in sorted(entries)) + "\n")
    if problems := [number for number, result in results.items() if result.problem]:
        sys.exit(f"not as the key has it: {sorted(problems)}")


def opened(stack: ExitStack, records: Path) -> Shop:
    """Operator and application, in namespaces that are deleted in the end."""
    cluster = running_cluster()
    os.environ["KUBECONFIG"] = cluster.env["KUBECONFIG"]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "image").mkdir()
    shutil.copy(Path(__file__).with_name("shop_jobs.py"), folder / "image")
    images = built_images(cluster, folder / "image")
    chart = packed_chart(cluster, folder)
    suffix = uuid.uuid4().hex[:6]
    namespace, system = f"shop-{suffix}", f"spoke-system-{suffix}"
    remove_leftovers(cluster.kubectl)
    for name in (namespace, system):
        cluster.namespace(name, {"pod-security.kubernetes.io/enforce": "restricted"})
        stack.callback(cluster.remove, name)
    values = {"image": image_values(images.operator), "watchNamespaces": [namespace], "crds": {"enabled": False}}
    cluster.install("spoke-operator", "charts/spoke-operator", system, values)
    stack.callback(cluster.run, "helm", "uninstall", "spoke-operator", "--namespace", system)
    small = {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}}
    product = stack.enter_context(installed(cluster, chart, images.application, namespace, "shop_jobs", pods=small))
    product.create_tables(shop_jobs.metadata)
    sightings = stack.enter_context(sightings_of(product))
    shop = Shop(product, product.runner(registry.default), system, sightings, records)
    stack.callback(lambda: shop.runner.close())
    return shop


def played(shop: Shop, number: int, item: Situation) -> Result:
    """Make one, and write its record, also of one that does not go as it should."""
    play, problem = None, ""
    try:
        with ExitStack() as undo:
            play = Play(shop, number, undo)
            item.run(play)
    except Exception as error:
        traceback.print_exc()
        # On one line, since blank lines separate the entries of the key.
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:2000]
    assert play is not None
    if play.took is not None and play.took > item.bound:
        problem += f" named after {play.took:.0f} s"
    play.record(f"Situation {number:02d}: somebody asks about job {play.job.id}." if play.name else "no job")
    print(f"{number:02d} {item.title}: {problem or 'as the key has it'}", flush=True)
    return Result(play.took, problem)


def key(number: int, item: Situation, result: Result) -> str:
    """What a reader is compared with."""
    named = "not named" if result.took is None else f"{result.took:.1f} s"
    return (
        f"{number:02d}: {item.title}\n"
        f"  cause: {item.cause}\n"
        f"  remedy: {item.remedy}\n"
        f"  final state: {item.final}\n"
        f"  bound: {item.bound:.0f} s; named after: {named}\n"
        f"  as recorded: {result.problem or 'final state as above'}"
    )


if __name__ == "__main__":
    main()
