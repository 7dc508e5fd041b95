"""``python -m scripts.dashboards NAME``: print a dashboard of the charts as JSON: applications, platform or tasks."""

from __future__ import annotations

import sys

from scripts.dashboards.applications_board import APPLICATIONS
from scripts.dashboards.board_model import Board
from scripts.dashboards.grafana_json import to_json
from scripts.dashboards.platform_board import PLATFORM
from scripts.dashboards.tasks_board import TASKS

BOARDS: dict[str, Board] = {board.name: board for board in (APPLICATIONS, PLATFORM, TASKS)}

if __name__ == "__main__":
    print(to_json(BOARDS[sys.argv[1]]))  # noqa: T201 (a tool)
