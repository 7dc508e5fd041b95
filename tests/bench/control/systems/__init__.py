"""A module for each other system: its `run` prints its figures as JSON. The number of jobs is the program's argument.

It works in the empty database of BENCH_DATABASE. Each can be imported in its own environment only.
"""
