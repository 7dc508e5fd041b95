"""The systems that only this benchmark measures, one module for each.

A module has the job, declared as its manual says, and the client. Each can be imported in its own environment only.
"""
