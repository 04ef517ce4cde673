-- Conventions of all migrations: they only expand (no column is dropped, renamed or narrowed while a
-- binary that uses it may run), the tenant leads every key of a tenant's data (ready for row-level
-- security and for distribution), every table and column says what it is, and instants are timestamptz.

CREATE TABLE commit_sequences (
    name text PRIMARY KEY,
    value bigint NOT NULL CHECK (value >= 0)
);
COMMENT ON TABLE commit_sequences IS
    'Numbers that commit in the order in which they are given out: the row stays locked until the transaction that took the number ends. A sequence of Postgres would not do, since its numbers may commit out of order and a reader could pass one by.';
COMMENT ON COLUMN commit_sequences.name IS 'What is numbered: change (catalogs, tenants) or closing (runs)';
COMMENT ON COLUMN commit_sequences.value IS 'The last number given out; 0 = none yet';
INSERT INTO commit_sequences (name, value) VALUES ('change', 0), ('closing', 0);

CREATE TABLE catalogs (
    catalog text PRIMARY KEY,
    current_version integer NOT NULL CHECK (current_version > 0),
    change_version bigint NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE catalogs IS 'Each catalog and which of its versions is in force';
COMMENT ON COLUMN catalogs.catalog IS 'Name of the catalog (hosting)';
COMMENT ON COLUMN catalogs.current_version IS 'Version in force, of catalog_versions';
COMMENT ON COLUMN catalogs.change_version IS 'Number of the change (commit_sequences) that last moved this row';
COMMENT ON COLUMN catalogs.applied_at IS 'When current_version was applied';
CREATE INDEX catalogs_change_version ON catalogs (change_version);

CREATE TABLE catalog_versions (
    catalog text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    content_hash text NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (catalog, version)
);
COMMENT ON TABLE catalog_versions IS 'Every version of every catalog, whole and never changed';
COMMENT ON COLUMN catalog_versions.catalog IS 'Name of the catalog';
COMMENT ON COLUMN catalog_versions.version IS 'Counts from 1';
COMMENT ON COLUMN catalog_versions.content_hash IS 'Hash of the definition; applying the same content again makes no version';
COMMENT ON COLUMN catalog_versions.definition IS 'The whole catalog in its canonical form';
COMMENT ON COLUMN catalog_versions.created_at IS 'When it was first applied';

CREATE TABLE plans (
    catalog text NOT NULL REFERENCES catalogs (catalog),
    plan text NOT NULL,
    current_version integer NOT NULL CHECK (current_version > 0),
    retired_at timestamptz,
    PRIMARY KEY (catalog, plan)
);
COMMENT ON TABLE plans IS 'Each plan and the version that new subscribers sign';
COMMENT ON COLUMN plans.catalog IS 'Name of the catalog';
COMMENT ON COLUMN plans.plan IS 'Name of the plan within the catalog';
COMMENT ON COLUMN plans.current_version IS 'Version that new subscribers sign, of plan_versions';
COMMENT ON COLUMN plans.retired_at IS 'Since when the catalog has no longer named this plan; its subscribers keep their version';

CREATE TABLE plan_versions (
    catalog text NOT NULL,
    plan text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    catalog_version integer NOT NULL,
    content_hash text NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (catalog, plan, version),
    FOREIGN KEY (catalog, catalog_version) REFERENCES catalog_versions (catalog, version)
);
COMMENT ON TABLE plan_versions IS 'Every version of every plan, never changed: a subscriber keeps the version it signed';
COMMENT ON COLUMN plan_versions.catalog IS 'Name of the catalog';
COMMENT ON COLUMN plan_versions.plan IS 'Name of the plan within the catalog';
COMMENT ON COLUMN plan_versions.version IS 'Counts from 1; grows when the content of the plan changes';
COMMENT ON COLUMN plan_versions.catalog_version IS 'Version of the catalog that brought it (its meters and policies as they were)';
COMMENT ON COLUMN plan_versions.content_hash IS 'Hash of the definition';
COMMENT ON COLUMN plan_versions.definition IS 'The plan in its canonical form';
COMMENT ON COLUMN plan_versions.created_at IS 'When it was first applied';
