"""What the charts' READMEs show works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .conftest import KUBE_VERSION, ROOT, Helm, environment_of, named, pod_of, read
from .test_network_policies import selects


def test_a_chart_of_ones_own_as_the_readme_shows_it(helm: Helm, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "charts/spoke-app", tmp_path / "spoke-app")
    text = (ROOT / "charts/spoke-app/README.md").read_text()
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["Chart.yaml", "values.yaml", "templates/web.yaml"]
    chart = tmp_path / "shop"
    for name, content in blocks:
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(content)
    helm.run("dependency", "update", "--skip-refresh", str(chart))
    render = ("template", "shop", str(chart), "--kube-version", KUBE_VERSION)
    objects = read(helm.run(*render))
    web = named(objects, "Deployment", "shop-web")
    assert pod_of(web)["serviceAccountName"] == named(objects, "ServiceAccount", "shop-runner")["metadata"]["name"]
    assert environment_of(pod_of(web)["containers"][0])["SPOKE_TASKS_URL"] == "http://shop-tasks:8080"
    (rule,) = named(objects, "NetworkPolicy", "shop-tasks")["spec"]["ingress"]
    labels = web["spec"]["template"]["metadata"]["labels"]
    assert any(selects(peer["podSelector"], labels) for peer in rule["from"])
    assert pod_of(named(objects, "Job", "shop-migrate"))["containers"][0]["command"] == ["alembic", "upgrade", "head"]
    by_tokens = read(helm.run(*render, "--set", "spoke-app.tasks.tokens.enabled=true"))
    pod = pod_of(named(by_tokens, "Deployment", "shop-web"))
    token = environment_of(pod["containers"][0])["SPOKE_TASKS_TOKEN_FILE"]
    mounts = {item["mountPath"]: item["name"] for item in pod["containers"][0]["volumeMounts"]}
    assert mounts[token.rpartition("/")[0]] in {item["name"] for item in pod["volumes"]}
