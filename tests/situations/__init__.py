"""`make situations`: what goes wrong in clusters, made on the test cluster, and recorded as a person on call sees it.

Each record is a numbered file that does not say what was done: a reader with fresh eyes names the cause and the remedy
from it and the docs. The key is a file of its own.
"""
