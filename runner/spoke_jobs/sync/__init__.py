"""``spoke-jobs sync``: the process that keeps ledger and cluster in step.

``decide`` says what is to be done about a row and its SpokeJob, and touches neither; ``model`` the frozen views that
it decides on; ``writer`` the one connection that writes, and whose lock says which sync is active; ``watch`` what
happens on the cluster; ``effects`` carries the decisions out; ``term`` when to look at what; ``process`` the loop
around it, which outlives database and API server.
"""
