"""The tasks and clients of the systems that the ledger's benchmark doesn't have.

Each can be imported in its own environment only.
"""
