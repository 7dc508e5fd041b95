"""Notices: messages about jobs that have failed, which `spoke-jobs notify` sends to a webhook or to Slack.

`notice_decisions.py` decides which failures are reported, and when; `notice_document.py`, `slack_message.py` and
`signing.py` make what is sent, `notice_delivery.py` sends it, `notice_pass.py` and `notify_process.py` repeat that.
"""
