"""What the kubernetes runner, sync and the commands need of a cluster: rows as SpokeJobs, and calls to the API server.

``cluster_client`` imports the Kubernetes client. Import it only where a call is about to be made, never in a job's pod.
"""
