"""The cluster, for the kubernetes runner, sync and the commands: make SpokeJobs from rows, and call the API server.

``cluster_client`` imports the Kubernetes client. Import it only just before a call, and never in a job's pod.

`namespace_reads.py` has what `why` and the dashboard read, `pod_logs.py` what `logs` does; `cluster_checks.py`,
`kube_environment.py` and `rights.py` are what `check` examines.
"""
