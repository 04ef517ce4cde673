-- Alerts of pools: once per pool, class and window, whichever member's usage reached it.

-- A pool's rows stand under pool!<pool>, which is no tenant.
ALTER TABLE alerts DROP CONSTRAINT alerts_tenant_fkey;
COMMENT ON COLUMN alerts.tenant IS 'Whose usage: a tenant, or pool!<pool> for what all members of a pool have used';
COMMENT ON COLUMN alerts.subject IS 'Subject within the tenant; of a pool, the class of members whose share it is; empty = the tenant, or a pool without classes';
