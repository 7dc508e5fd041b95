"""The commands: `why` is in `why_command.py`. The modules without `_command` are parts that commands share."""
