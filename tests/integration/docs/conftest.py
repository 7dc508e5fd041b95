"""What the operator's tests stand on serves the pages that are tried on a cluster, too."""

from tests.integration.operator.conftest import (  # noqa: F401 (fixtures)
    cluster,
    cluster_env,
    image,
    operator_kubeconfig,
)
