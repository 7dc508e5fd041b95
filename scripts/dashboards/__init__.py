"""The Grafana dashboards of the charts, as tables, and their JSON."""
