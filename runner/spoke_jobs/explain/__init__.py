"""Explain jobs, schedules and clusters: reasons, facts and advice, as values, texts and JSON documents.

Pure: values in, values out. The command line prints what this package decides.
"""
