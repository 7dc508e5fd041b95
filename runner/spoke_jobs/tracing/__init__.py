"""Spans of OpenTelemetry for dispatches, attempts and tasks. Imported only if the setting `SPOKE_TRACES` is on."""
