-- subject '' stands for the whole tenant, label is the window's name; as in the tables of usage.

CREATE TABLE alerts (
    tenant text NOT NULL REFERENCES tenants (tenant),
    meter text NOT NULL,
    label text NOT NULL,
    subject text NOT NULL,
    threshold_percent numeric(7, 4) NOT NULL CHECK (threshold_percent BETWEEN 0 AND 100),
    kind text NOT NULL CHECK (kind IN ('approaching_limit', 'limit_exceeded')),
    limit_units bigint NOT NULL CHECK (limit_units >= 0),
    used_units bigint NOT NULL,
    recommended_action text,
    raised_at timestamptz NOT NULL,
    resolved_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    notified_at timestamptz,
    PRIMARY KEY (tenant, meter, label, subject, threshold_percent)
);
COMMENT ON TABLE alerts IS 'Thresholds of limits that usage has reached: one row per threshold and window, whoever saw it first and however often it was reached again. An unresolved one of a past window stood when the window ended';
COMMENT ON COLUMN alerts.tenant IS 'Whose usage';
COMMENT ON COLUMN alerts.meter IS 'What was used';
COMMENT ON COLUMN alerts.label IS 'The window';
COMMENT ON COLUMN alerts.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN alerts.threshold_percent IS 'The threshold, in percent of the limit';
COMMENT ON COLUMN alerts.kind IS 'approaching_limit below 100 %, limit_exceeded from there on';
COMMENT ON COLUMN alerts.limit_units IS 'The limit when it was raised, base units';
COMMENT ON COLUMN alerts.used_units IS 'What was used of it when it was raised, base units';
COMMENT ON COLUMN alerts.recommended_action IS 'What the catalog recommended then, in words for people';
COMMENT ON COLUMN alerts.raised_at IS 'When it was first raised, by the tenant''s clock';
COMMENT ON COLUMN alerts.resolved_at IS 'When it ceased to be so (usage fell, the limit rose), by the tenant''s clock; null = it stands';
COMMENT ON COLUMN alerts.created_at IS 'When it was first raised, real time';
COMMENT ON COLUMN alerts.notified_at IS 'When people were told, real time; null = not yet';
CREATE INDEX alerts_unnotified ON alerts (created_at) WHERE notified_at IS NULL;
CREATE INDEX alerts_latest ON alerts (tenant, created_at);
