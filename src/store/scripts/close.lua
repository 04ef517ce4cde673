-- One step of closing a run: leases::key::KeyState::close.
-- KEYS: the key, the life.
-- ARGV: 1 life, 2 epoch, 3 run, 4 retention in seconds (-1 none), 5 fold (else fence),
--   6 closed_seq, 7 used, 8 undone, 9 forfeit.
-- Answer: fenced {0, known, taken}, folded {1}, absent {2}, stale {3, epoch}, lost {4}.

local name, epoch, run = KEYS[1], tonumber(ARGV[2]), ARGV[3]
local retention, fold = tonumber(ARGV[4]), ARGV[5] == '1'
local closed_seq = tonumber(ARGV[6])

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {4}
end
local key, closed_seq_min, fenced, newer = read_key(name, epoch)
if newer then
  return {3, newer}
end
if not key then
  -- Also a fence has to be remembered: the run may be about to call for the first time.
  remember({fenced = fenced}, run, fold)
  if fold then
    closed_seq_min = math.max(closed_seq_min, closed_seq)
  end
  redis.call('DEL', name)
  redis.call('HSET', name, 'e', text(epoch), 'm', text(closed_seq_min), 'f', packed_fences(fenced))
  redis.call('EXPIRE', name, STUB_RETENTION_SECONDS)
  return fold and {2} or {0, 0, 0}
end

local answer
if fold then
  local fence = fence_of(key, run)
  if key.closed_seq < closed_seq and not (fence and fence.folded) then
    key.base = saturated(key.base + (tonumber(ARGV[7]) - tonumber(ARGV[8])))
    key.forfeited = math.min(key.forfeited + tonumber(ARGV[9]), AMOUNT_MAX)
  end
  -- Also when the floor had the closing: then a late call made the entry.
  drop_entry(key, run)
  recount(key)
  answer = {1}
else
  -- An entry that only the floor made says nothing of what the run held.
  local e = known_entry(key, run)
  local reported = e ~= nil and e.sequence > 0
  answer = {0, reported and 1 or 0, reported and taken_gross(e) or 0}
end
remember(key, run, fold)
drop_wants(key, run)
write_key(key, retention)
return answer
