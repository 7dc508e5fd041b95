"""An application that declares a job and no task."""

from spoke_jobs import Registry

registry = Registry()


@registry.job("report")
def report(_ctx: object) -> None:
    """Do nothing."""
