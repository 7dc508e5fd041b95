"""Explain jobs, schedules and clusters: reasons, facts and advice, as values, texts and JSON documents.

Pure: values in, values out. The command line prints what this package decides.

Why a job waits or failed: from the ledger `waiting.py` and `why.py`, from the cluster `in_cluster.py` and `reasons.py`,
of all jobs at once `groups.py`, of jobs that workers pass over `passed_over.py`, of lanes `moves.py`. `job_details.py`
is what `show` says, `limit_texts.py` what is said of limits, `changes.py` of a cancellation or a retry, `sizes.py` of
usage, `cluster_findings.py` of `check`. JSON documents: `json_output.py`, `counts_json.py`, `groups_json.py`,
`schedules_json.py`, `mutes_json.py`.
"""
