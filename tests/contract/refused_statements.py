"""Statements on the ledger's tables that PostgreSQL refuses to the roles of processes that do not need them."""

from __future__ import annotations

NOBODY = (
    "CREATE TABLE own (id integer)",
    "CREATE SCHEMA own",
    "ALTER TABLE job_request ADD COLUMN own integer",
    "ALTER TABLE job_attempt DISABLE TRIGGER ALL",
    "DROP TABLE queue_lock",
    "DROP INDEX ix_job_request_due",
    "TRUNCATE task_outbox",
    "CREATE TRIGGER own BEFORE INSERT ON job_request FOR EACH ROW EXECUTE FUNCTION spoke_jobs_other_insert()",
    "CREATE OR REPLACE FUNCTION spoke_jobs_other_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "UPDATE spoke_jobs_version SET version_num = '0001'",
    "DELETE FROM spoke_jobs_version",
    "INSERT INTO spoke_jobs_version VALUES ('0001')",
    "SELECT setval('job_request_id_seq', 1)",
    "UPDATE attempt_report SET cause = ''",
    "DELETE FROM attempt_report",
    "UPDATE job_event SET actor = 'somebody else'",
)
"""Refused to every role but that of migrations."""
NO_JOB = (
    "UPDATE job_request SET payload = '{}'",
    "UPDATE job_request SET job_type = 'other'",
    "UPDATE job_request SET runner = 'legacy'",
    "UPDATE job_request SET uid = gen_random_uuid()",
    "UPDATE job_request SET organization_id = 1",
    "UPDATE job_request SET rank = -100",
    "UPDATE job_request SET cancel_requested_at = now()",
    "UPDATE job_request SET run = 2",
    "DELETE FROM job_request",
    "INSERT INTO job_request (payload, queue_name, job_type, run) VALUES ('', '', '', 7)",
    "INSERT INTO job_request (payload, queue_name, job_type, schedule, scheduled_for) VALUES ('', '', '', 's', now())",
    "UPDATE job_request SET scheduled_for = now()",
    "DELETE FROM job_attempt",
    "UPDATE job_attempt SET job_id = 1",
    "UPDATE queue_lock SET job_id = 1",
    "UPDATE job_checkpoint SET job_id = 1",
    "DELETE FROM job_checkpoint",
    "SELECT 1 FROM attempt_report",
    "INSERT INTO attempt_report VALUES (1, 1, 1, now(), '', '', '', '[]')",
    "SELECT payload FROM task_outbox",
    "UPDATE task_outbox SET payload = ''",
    "DELETE FROM task_outbox",
    "SELECT 1 FROM job_event",
    "INSERT INTO job_event (at, action) VALUES (now(), 'cancel')",
    "DELETE FROM job_event",
    "SELECT document FROM notice_outbox",
    "DELETE FROM notice_outbox",
    "INSERT INTO notice_mute (until, reason, muted_at) VALUES (now(), '', now())",
)
"""Refused to the role of jobs' pods as well."""
