"""What the operator does: streams, work queue, API calls, health. It holds no decision about a SpokeJob."""
