-- Brings a counter to what the ledger has, upwards, and its own sums to what its entries say. What
-- the counter says lower than the ledger is raised; the base is lowered only where no run has an
-- entry, so that nobody can be holding anything.
-- KEYS: the key, the life.
-- ARGV: 1 life, 2 epoch, 3 base and 4 forfeited as they were seen, 5 base and 6 forfeited as they
--   are to be, then run, counted, undone of each open run.
-- Answer: 0 done, 1 it has moved, 2 it is not there, 3 a later epoch, 4 lost.

local name, epoch = KEYS[1], tonumber(ARGV[2])
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 4
end
local key, _, newer = read_key(name, epoch)
if newer then
  return 3
end
if not key then
  return 2
end
local base, forfeited = tonumber(ARGV[5]), tonumber(ARGV[6])
if key.base ~= tonumber(ARGV[3]) or key.forfeited ~= tonumber(ARGV[4]) then
  return 1
end
if (base < key.base or forfeited < key.forfeited) and next(entries(key)) then
  return 1
end
key.base, key.forfeited = base, forfeited
for i = 7, #ARGV, 3 do
  local run = ARGV[i]
  if not fence_of(key, run) then
    -- As after a loss: what the ledger has stands in until the run reports again.
    local e = entry(key, run)
    e.flushed = math.max(e.flushed, tonumber(ARGV[i + 1]))
    e.undone = math.max(e.undone, tonumber(ARGV[i + 2]))
    put_entry(key, run, e)
  end
end
local all = entries(key)
key.taken, key.used, key.holders, key.overflowed = 0, 0, 0, false
for _, e in pairs(all) do
  count_entry(key, e)
end
write_key(key, redis.call('TTL', name))
return 0
