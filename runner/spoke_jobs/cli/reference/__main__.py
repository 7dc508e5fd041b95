"""``python -m spoke_jobs.cli.reference PAGE``: print one page of docs/reference. `make generate` calls it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from spoke_jobs.cli.reference import causes_page, cli_page, options_page, settings_page, spokelimit_page

PAGES: Mapping[str, Callable[[], str]] = {
    "cli": cli_page.page,
    "settings": settings_page.page,
    "options": options_page.page,
    "causes": causes_page.page,
    "spokelimit": spokelimit_page.page,
}


def main() -> None:
    """Print the page that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] not in PAGES:
        sys.exit(f"usage: python -m spoke_jobs.cli.reference {'|'.join(PAGES)}")
    print(PAGES[sys.argv[1]]().rstrip("\n"))


if __name__ == "__main__":
    main()
