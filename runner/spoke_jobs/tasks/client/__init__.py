"""What dispatches: keeps tasks in memory and delivers them until a task server has run each."""
