"""The commands: `why` is in `why_command.py`. The modules without `_command` are parts that commands share.

`filter_options.py` has the options that select jobs, tasks, batches and events, `exits.py` the exit codes,
`log_steps.py` and `log_reader.py` the output of `logs`.
"""
