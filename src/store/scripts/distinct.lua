-- One call to the set of a distinct count: store::distinct::DistinctState::apply.
-- KEYS: the set, its head, the life. All numbers but the hashes are whole and below 2^53; a hash is a
--   64-bit number, which no double holds: it stays text.
-- ARGV: 1 life, 2 epoch, 3 recovered, 4 retention in seconds (-1 none), 5 ceiling (-1 nothing to
--   admit), 6 hash to admit, 7 floor brought, 8 the floor's estimate (-1 it is exact), 9 the known
--   values' estimate (-1 likewise), 10 number of the floor's hashes, these, then the known hashes.
-- Answer: counted {0, admitted, count}, recovering {1, count}, need floor {2}, stale {3, epoch},
--   lost {4}.

local SET, SET_HEAD = KEYS[1], KEYS[2]
local EXACT_VALUES_MAX = 4096
local FIRST_HASH = 11

local epoch, recovered = tonumber(ARGV[2]), ARGV[3] == '1'
local retention, ceiling = tonumber(ARGV[4]), tonumber(ARGV[5])
local floor_hashes = tonumber(ARGV[10])

if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return {4}
end
local known_epoch, at_least, provisional = 0, 0, false
local head = redis.call('GET', SET_HEAD)
if head then
  local e, n, p = string.match(head, '^(%d+) (%d+) ([01])$')
  known_epoch, at_least, provisional = tonumber(e), tonumber(n), p == '1'
end
if known_epoch > epoch then
  return {3, known_epoch}
end

local size = 0

local function insert(hash)
  if size >= EXACT_VALUES_MAX then
    return false
  end
  redis.call('SADD', SET, hash)
  size = size + 1
  return true
end

local function take_in(from, to, estimate)
  at_least = math.max(at_least, estimate)
  for i = from, to do
    if redis.call('SISMEMBER', SET, ARGV[i]) == 0 and not insert(ARGV[i]) then
      at_least = math.max(at_least, EXACT_VALUES_MAX + 1)
    end
  end
end

local absent = known_epoch < epoch
local wants_floor = absent or (provisional and recovered)
local at_least_before = at_least
if wants_floor and ARGV[7] ~= '1' then
  return {2}
end
if absent then
  redis.call('DEL', SET, SET_HEAD)
  at_least = 0
else
  size = redis.call('SCARD', SET)
end
if wants_floor then
  provisional = not recovered
  take_in(FIRST_HASH, FIRST_HASH + floor_hashes - 1, tonumber(ARGV[8]))
end
take_in(FIRST_HASH + floor_hashes, #ARGV, tonumber(ARGV[9]))

local admitted, recovering = 0, false
if ceiling >= 0 then
  if redis.call('SISMEMBER', SET, ARGV[6]) == 1 then
    admitted = 1
  elseif not recovered then
    recovering = true
  elseif math.max(at_least, size) < ceiling and insert(ARGV[6]) then
    admitted = 1
  end
end

if wants_floor or at_least ~= at_least_before then
  local state = string.format('%.0f %.0f %d', epoch, at_least, provisional and 1 or 0)
  redis.call('SET', SET_HEAD, state, 'KEEPTTL')
end
if retention >= 0 then
  redis.call('EXPIRE', SET, retention)
  redis.call('EXPIRE', SET_HEAD, retention)
else
  redis.call('PERSIST', SET)
  redis.call('PERSIST', SET_HEAD)
end
local count = math.max(at_least, size)
if recovering then
  return {1, count}
end
return {0, admitted, count}
