"""Notices: messages about jobs that have failed, which `spoke-jobs notify` sends to a webhook or to Slack."""
