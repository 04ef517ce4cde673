-- One step of closing a run: leases::key::KeyState::close.
-- KEYS: the key, the life.
-- ARGV: 1 life, 2 epoch, 3 run, 4 retention in seconds (-1 none), 5 fold (else fence),
--   6 closed_seq, 7 used, 8 undone, 9 forfeit, 10 folded_through, 11 fenced_max.
-- Answer: fenced {0, known, taken}, folded {1}, absent {2}, stale {3, epoch}, lost {4}, crowded {5}.

local name, epoch, run = KEYS[1], tonumber(ARGV[2]), ARGV[3]
local retention, fold = tonumber(ARGV[4]), ARGV[5] == '1'
local closed_seq = fold and tonumber(ARGV[6]) or nil
local folded_through, fenced_max = tonumber(ARGV[10]), tonumber(ARGV[11])

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {4}
end
local key, stub, newer = read_key(name, epoch)
if newer then
  return {3, newer}
end
-- The closing that all later ones wait for is let in: once it is folded everywhere, others are forgotten.
local is_next = fold and closed_seq <= folded_through + 1
if not is_next and not fence_of(key or stub, run) then
  local unfolded = 0
  for _, fence in ipairs((key or stub).fenced) do
    unfolded = unfolded + (is_folded_through(fence, folded_through) and 0 or 1)
  end
  if unfolded >= fenced_max * UNFOLDED_FACTOR then
    return {5}
  end
end
if not key then
  -- Also a fence has to be remembered: the run may be about to call for the first time.
  remember(stub, run, closed_seq, folded_through, fenced_max)
  if fold then
    stub.closed_seq_min = math.max(stub.closed_seq_min, closed_seq)
  end
  redis.call('DEL', name)
  redis.call('HSET', name, 'e', text(epoch), 'm', text(stub.closed_seq_min),
             'f', packed_fences(stub.fenced), 'p', text(stub.folded_through))
  redis.call('EXPIRE', name, STUB_RETENTION_SECONDS)
  return fold and {2} or {0, 0, 0}
end

local answer
if fold then
  local fence = fence_of(key, run)
  local folded = closed_seq <= key.folded_through or (fence ~= nil and fence.closed_seq ~= nil)
  if key.closed_seq < closed_seq and not folded then
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
remember(key, run, closed_seq, folded_through, fenced_max)
drop_wants(key, run)
write_key(key, retention)
return answer
