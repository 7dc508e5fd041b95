"""Tasks under ``kubernetes``: light work sent over HTTP to a small deployment, and kept by its sender until it has run.

``protocol`` is what both sides share, ``client`` what dispatches, ``server`` what runs; server and client never import
each other. Neither is imported before it is used: job pods need neither an HTTP client nor a web server.
"""
