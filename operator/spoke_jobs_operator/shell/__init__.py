"""The operator's I/O: streams, work queue, API calls, health. It makes no decision about a SpokeJob."""
