"""See ``fixtures``."""

from tests.integration.sync.fixtures import cluster, kubeconfig, stage

__all__ = ["cluster", "kubeconfig", "stage"]
