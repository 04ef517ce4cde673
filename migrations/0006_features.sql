CREATE TABLE feature_overrides (
    tenant text NOT NULL REFERENCES tenants (tenant),
    feature text NOT NULL,
    value jsonb NOT NULL,
    expires_at timestamptz,
    reason text NOT NULL,
    actor text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, feature)
);
COMMENT ON TABLE feature_overrides IS 'What single tenants have otherwise than their plans say; audit_log has what was before';
COMMENT ON COLUMN feature_overrides.tenant IS 'Who has it';
COMMENT ON COLUMN feature_overrides.feature IS 'Feature of the tenant''s catalog';
COMMENT ON COLUMN feature_overrides.value IS 'The value that the tenant gets, of the feature''s type';
COMMENT ON COLUMN feature_overrides.expires_at IS 'When it stops holding, by the tenant''s clock; null = never. The row stays';
COMMENT ON COLUMN feature_overrides.reason IS 'Why; never empty';
COMMENT ON COLUMN feature_overrides.actor IS 'Who set it';
COMMENT ON COLUMN feature_overrides.set_at IS 'When it was set, real time';
