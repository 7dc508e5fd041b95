"""One module for each system: its job, declared as its manual says, and its client.

Each can be imported in its own environment only.
"""
