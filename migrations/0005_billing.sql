CREATE TABLE charges (
    tenant text NOT NULL REFERENCES tenants (tenant),
    subscription uuid NOT NULL,
    meter text NOT NULL,
    label text NOT NULL,
    subject text NOT NULL,
    kind text NOT NULL,
    period_start timestamptz NOT NULL,
    charge uuid NOT NULL UNIQUE,
    account text NOT NULL,
    period_end timestamptz NOT NULL CHECK (period_end > period_start),
    quantity numeric NOT NULL,
    rate numeric,
    amount_minor bigint NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    catalog text NOT NULL,
    plan text NOT NULL,
    plan_version integer NOT NULL,
    explanation jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, meter, label, subject, kind)
);
COMMENT ON TABLE charges IS 'What is to be billed. Append-only; the key lets each charge happen once, and a correction is another kind of charge. A charge of 0 says that the window is closed and nothing is owed for it';
COMMENT ON COLUMN charges.tenant IS 'Whose usage';
COMMENT ON COLUMN charges.subscription IS 'Subscription in force at the end of the window. Not part of the key: a window''s usage is counted once, and so it is charged once';
COMMENT ON COLUMN charges.meter IS 'What was used';
COMMENT ON COLUMN charges.label IS 'Window charged for; of a level, the billing month on the subscription''s anchor';
COMMENT ON COLUMN charges.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN charges.period_start IS 'Start of the period charged, by the tenant''s clock';
COMMENT ON COLUMN charges.kind IS 'What sort of charge (overage)';
COMMENT ON COLUMN charges.charge IS 'Id of the charge';
COMMENT ON COLUMN charges.account IS 'Who pays';
COMMENT ON COLUMN charges.period_end IS 'End of the period charged (exclusive)';
COMMENT ON COLUMN charges.quantity IS 'Charged quantity, in pricing units';
COMMENT ON COLUMN charges.rate IS 'Price per pricing unit in major units of the currency; null when several rates apply (see explanation)';
COMMENT ON COLUMN charges.amount_minor IS 'Amount in minor units of the currency (cents)';
COMMENT ON COLUMN charges.currency IS 'ISO 4217 code';
COMMENT ON COLUMN charges.catalog IS 'Catalog of the plan charged by';
COMMENT ON COLUMN charges.plan IS 'Plan charged by';
COMMENT ON COLUMN charges.plan_version IS 'Version of the plan charged by';
COMMENT ON COLUMN charges.explanation IS 'How the amount came about: used, included, grace, rates, rounding';
COMMENT ON COLUMN charges.created_at IS 'When, real time';

CREATE TABLE job_runs (
    job text NOT NULL,
    scheduled_at timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed')),
    started_by text NOT NULL CHECK (started_by IN ('schedule', 'hand')),
    now_override timestamptz,
    attempt integer NOT NULL CHECK (attempt >= 0),
    worker text NOT NULL,
    claim uuid NOT NULL,
    started_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    finished_at timestamptz,
    retry_at timestamptz,
    error text,
    summary jsonb,
    PRIMARY KEY (job, scheduled_at),
    CHECK ((status = 'running') = (finished_at IS NULL))
);
COMMENT ON TABLE job_runs IS 'One row per tick of each scheduled job: whoever inserts it runs it';
COMMENT ON COLUMN job_runs.job IS 'Name of the job';
COMMENT ON COLUMN job_runs.scheduled_at IS 'The tick, by the schedule''s clock';
COMMENT ON COLUMN job_runs.status IS 'running, succeeded or failed';
COMMENT ON COLUMN job_runs.started_by IS 'What first started it: schedule or hand';
COMMENT ON COLUMN job_runs.now_override IS 'The present that somebody set for a run by hand; null = the real one';
COMMENT ON COLUMN job_runs.attempt IS 'Attempts begun; one that a stopping worker gave back does not count';
COMMENT ON COLUMN job_runs.worker IS 'Who runs or ran this attempt';
COMMENT ON COLUMN job_runs.claim IS 'Random id of this attempt: only who holds it may renew or finish the run';
COMMENT ON COLUMN job_runs.started_at IS 'When this attempt started, real time';
COMMENT ON COLUMN job_runs.lease_until IS 'A running attempt that has not renewed by then is taken for dead, real time';
COMMENT ON COLUMN job_runs.finished_at IS 'When this attempt ended, real time';
COMMENT ON COLUMN job_runs.retry_at IS 'When a failed run may be tried again, real time; null = only by hand';
COMMENT ON COLUMN job_runs.error IS 'Why this attempt, or the one before, failed';
COMMENT ON COLUMN job_runs.summary IS 'What the job did';
CREATE INDEX job_runs_retry ON job_runs (retry_at) WHERE status = 'failed' AND retry_at IS NOT NULL;
