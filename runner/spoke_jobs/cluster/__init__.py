"""What the kubernetes runner and sync both know of a cluster: a row as a SpokeJob, and the calls of the API server.

``api`` imports the Kubernetes client, so it is imported only where a call is about to be made: never by a job's pod.
"""
