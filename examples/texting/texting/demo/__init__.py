"""The demonstration, ``python -m texting.demo``: import a file, divide it among texters, send messages, export, check.

``__main__`` is the command. ``drive`` has the steps, the same on a laptop and in a cluster. ``services`` starts the
processes that a laptop needs. ``watching`` shows progress. ``checks`` compares the numbers with the file.
"""
