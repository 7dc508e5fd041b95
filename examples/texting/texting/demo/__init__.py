"""The demonstration, ``python -m texting.demo``: a file imported and divided among texters, messages sent, an export
made, and all of it checked.

``__main__`` the command; ``drive`` what is done, the same on a laptop and in a cluster; ``services`` what a laptop has
to start first; ``watching`` progress on the screen; ``checks`` the numbers against the file.
"""
