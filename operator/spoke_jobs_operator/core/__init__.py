"""The operator's decisions: pure functions on frozen values, without I/O, clock or Kubernetes client.

`reconciling/` decides about one SpokeJob; `diagnosis/diagnose.py` and `diagnosis/refusals.py` recognize causes;
`templates/build_job.py` says what the operator overrides in a pod, and `templates/template_checks.py` which jobs may
use a PodTemplate; `admission/admit.py` has turns, locks and limits,
`limits/` the limits that apply, `obstacles/` what else holds jobs back, `standby/` the
standby pods, `process/election.py` who leads, `reporting/` what others are told.
"""
