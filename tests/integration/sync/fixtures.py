"""Fixtures that the tests of sync and those of the kubernetes runner share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.sync.stage import Cluster, Stage, find_kubeconfig, namespace_name

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """The test cluster's kubeconfig."""
    return find_kubeconfig()


@pytest.fixture
def cluster(kubeconfig: str) -> Iterator[Cluster]:
    """A namespace of the test's own."""
    made = Cluster(kubeconfig, namespace_name())
    made.install()
    yield made
    made.close()


@pytest.fixture
def stage(cluster: Cluster, postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The namespace with a ledger."""
    monkeypatch.setenv("KUBECONFIG", cluster.kubeconfig)
    engine = create_engine(postgres_ledger_url)
    made = Stage(cluster, SqlLedger(engine), postgres_ledger_url)
    yield made
    made.close()
    engine.dispose()
