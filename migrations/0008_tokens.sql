CREATE TABLE tokens (
    token uuid PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('service', 'viewer', 'billing', 'admin')),
    tenant text REFERENCES tenants (tenant),
    hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    expires_at timestamptz,
    revoked_at timestamptz,
    change_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tokens IS 'Who may call the API: bearer tokens, of which only the hash is kept. They belong to the operator, not to a tenant';
COMMENT ON COLUMN tokens.token IS 'Id of the token; not the secret';
COMMENT ON COLUMN tokens.name IS 'What the operator calls it; no two live ones share it';
COMMENT ON COLUMN tokens.role IS 'What it may do: service, viewer, billing or admin';
COMMENT ON COLUMN tokens.tenant IS 'The only tenant that it may name; null = any';
COMMENT ON COLUMN tokens.hash IS 'SHA-256 of the secret, which has 256 random bits: nothing slower is needed';
COMMENT ON COLUMN tokens.expires_at IS 'When it ends by itself, real time; null = never';
COMMENT ON COLUMN tokens.revoked_at IS 'When it was revoked, real time; null = it was not';
COMMENT ON COLUMN tokens.change_version IS 'Number of the last change to it (commit_sequences); sidecars look for newer ones';
COMMENT ON COLUMN tokens.created_at IS 'When it was created, real time';
CREATE UNIQUE INDEX tokens_live_name ON tokens (name) WHERE revoked_at IS NULL;
CREATE INDEX tokens_change_version ON tokens (change_version);
