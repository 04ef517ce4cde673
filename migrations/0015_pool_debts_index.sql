-- Flushes that raise levels look for debts at pools: there are next to none.
CREATE INDEX pool_usage_debts ON pool_usage (tenant, meter, label) WHERE used < 0;
