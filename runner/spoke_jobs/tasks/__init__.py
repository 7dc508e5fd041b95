"""Tasks under ``kubernetes``: light work, sent over HTTP to a small deployment or written to the outbox.

``client`` dispatches tasks, ``server`` runs them, ``protocol`` defines their messages. Client and server never import
each other. Neither is imported before it is used, because a job's pod needs no HTTP client and no web server.
"""
