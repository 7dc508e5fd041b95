"""Tasks under ``kubernetes``: light work sent over HTTP to a small deployment, and kept by its sender until it has run.

``wire`` is what both sides share. ``dispatcher`` is the sender's side, ``server`` the deployment's; neither is imported
before it is used, because job pods need neither an HTTP client nor a web framework.
"""
