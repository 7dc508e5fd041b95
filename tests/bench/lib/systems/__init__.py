"""The systems that both benchmarks measure, one module for each: its job, declared as its manual says, and its client.

Each can be imported in its own environment only.
"""
