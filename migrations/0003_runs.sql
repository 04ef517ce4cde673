CREATE TABLE runs (
    run uuid PRIMARY KEY,
    host text NOT NULL,
    boot_id text NOT NULL,
    started_at timestamptz NOT NULL,
    flushed_position bigint NOT NULL DEFAULT 0 CHECK (flushed_position >= 0),
    mark_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_seq bigint UNIQUE,
    closed_how text CHECK (closed_how IN ('stopped', 'recovered', 'forfeited', 'released')),
    folded_at timestamptz CHECK (folded_at >= closed_at),
    CHECK ((closed_at IS NULL) = (closed_seq IS NULL) AND (closed_at IS NULL) = (closed_how IS NULL))
);
COMMENT ON TABLE runs IS 'Every start of every sidecar. An open run may hold escrow and may have acknowledged usage that is not here yet';
COMMENT ON COLUMN runs.run IS 'Random id, never used again';
COMMENT ON COLUMN runs.host IS 'Name of the host it runs on';
COMMENT ON COLUMN runs.boot_id IS 'Boot of that host; another boot means that what was not synced may be lost';
COMMENT ON COLUMN runs.started_at IS 'When it started, real time';
COMMENT ON COLUMN runs.flushed_position IS 'High-water mark: everything before this position of its journal is in the ledger';
COMMENT ON COLUMN runs.mark_at IS 'Real time through which everything it acknowledged is in the ledger';
COMMENT ON COLUMN runs.closed_at IS 'When it was closed, real time; null = open';
COMMENT ON COLUMN runs.closed_seq IS 'Number of its closing, in commit order (commit_sequences)';
COMMENT ON COLUMN runs.closed_how IS 'stopped: by itself; recovered: from its journal after a crash; forfeited or released: by an operator';
COMMENT ON COLUMN runs.folded_at IS 'When its totals were folded into every shared counter that it touched, real time; a closed run without it still keeps the epoch in force from being recovered';
CREATE INDEX runs_unfolded ON runs (run) WHERE folded_at IS NULL;
CREATE INDEX runs_open ON runs (mark_at) WHERE closed_at IS NULL;

CREATE TABLE epochs (
    epoch bigint PRIMARY KEY CHECK (epoch > 0),
    counters text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    recovered_at timestamptz
);
COMMENT ON TABLE epochs IS 'Each life of the shared counters: a Redis server that was not seen before, or that does not know the epoch any more, has lost data';
COMMENT ON COLUMN epochs.epoch IS 'Counts from 1; the highest is in force';
COMMENT ON COLUMN epochs.counters IS 'The counters that it began on: run_id of the Redis server and the life found there';
COMMENT ON COLUMN epochs.started_at IS 'When a sidecar first saw that server, real time';
COMMENT ON COLUMN epochs.recovered_at IS 'When all runs had reported or were closed and folded, so that escrow may be granted again; null = not yet';

CREATE TABLE epoch_reports (
    epoch bigint NOT NULL REFERENCES epochs (epoch),
    run uuid NOT NULL REFERENCES runs (run),
    reported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, run)
);
COMMENT ON TABLE epoch_reports IS 'Which runs have sent all their totals to the Redis of an epoch';
COMMENT ON COLUMN epoch_reports.epoch IS 'The epoch';
COMMENT ON COLUMN epoch_reports.run IS 'The run that has reported';
COMMENT ON COLUMN epoch_reports.reported_at IS 'When, real time';
