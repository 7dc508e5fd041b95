"""Tasks under ``kubernetes``: light work, sent over HTTP to a small deployment or written to the outbox.

``client`` is what dispatches, ``server`` what runs, ``protocol`` what they say to one another. Client and server never
import each other. Neither is imported before it is used: a job's pod needs no HTTP client and no web server.
"""
