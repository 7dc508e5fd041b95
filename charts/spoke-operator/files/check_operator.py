"""`helm test`: check that the API server serves SpokeJobs, that every replica is ready, and that one of them leads."""

import os
import socket
import ssl
import sys
import time
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

service, replicas = sys.argv[1], int(sys.argv[2])
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATIENCE_SECONDS = 60.0


def definition() -> str:
    """Return a problem of the definition, or an empty text if the API server serves it."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    connection = HTTPSConnection(host, port, timeout=10, context=trust)
    token = (ACCOUNT / "token").read_text().strip()
    connection.request("GET", "/apis/jobs.spoke.dev/v1", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    if answer.status == 200 and b'"spokejobs"' in answer.read():
        return ""
    return (
        f"the API server does not serve SpokeJobs ({answer.status}): install the CustomResourceDefinition, "
        "with crds.enabled=true or kubectl apply --server-side --filename crds/spokejobs.yaml"
    )


def operator() -> str:
    """Return a problem of the replicas, or an empty text if all are ready and one leads."""
    addresses = sorted({str(item[4][0]) for item in socket.getaddrinfo(service, 8080, type=socket.SOCK_STREAM)})
    if len(addresses) < replicas:
        return f"{len(addresses)} of {replicas} replicas run: see kubectl get pods"
    leaders = []
    for address in addresses:
        status, _ = get(address, "/readyz")
        if status != 200:
            return f"the replica at {address} is not ready ({status}): see its log"
        if "\nspoke_operator_leads 1.0" in get(address, "/metrics")[1]:
            leaders.append(address)
    if len(leaders) != 1:
        return f"{len(leaders)} of {len(addresses)} replicas lead: see kubectl get lease {service}, and the logs"
    print(f"{len(addresses)} replicas are ready; the one at {leaders[0]} leads")
    return ""


def get(address: str, path: str) -> tuple[int, str]:
    connection = HTTPConnection(address, 8080, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def wait_until_sound(check) -> None:
    """Repeat a check until it finds no problem; after a minute, exit with the problem."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            problem = check()
        except OSError as error:
            problem = f"{check.__name__}: {error}"
        if not problem:
            return
        if time.monotonic() > deadline:
            sys.exit(problem)
        time.sleep(1)


wait_until_sound(definition)
print("the API server serves SpokeJobs")
wait_until_sound(operator)
