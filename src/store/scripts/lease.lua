-- One call of one run: leases::key::KeyState::apply.
-- KEYS: the key, the life.
-- ARGV: 1 life, 2 epoch, 3 recovered, 4 run, 5 sequence,
--   6..10 granted returned consumed recorded undone, 11 ceiling (-1 none), 12 its version,
--   13 want, 14 need_to, 15 wanted_to, 16 target, 17 last, 18 closed, 19 depose (0 none),
--   20 retention in seconds (-1 none), 21 floor brought, 22 closed_seq, 23 base_used,
--   24 base_forfeited, 25 least version of the ceiling (0 any), then run, used, undone of each
--   open run.
-- Answer: counted 0..., need floor {1, closed_seq_min}, stale {2, epoch}, lost {3}, fenced {4}.

-- Calls from this number on are of a dead run's heir, who knows better (leases::heir).
local TELLS = AMOUNT_MAX - 1

local name, epoch, run = KEYS[1], tonumber(ARGV[2]), ARGV[4]
local recovered = ARGV[3] == '1'
local sequence, last, closed = tonumber(ARGV[5]), ARGV[17] == '1', ARGV[18] == '1'
local depose = tonumber(ARGV[19])

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {3}
end
local key, stub, newer = read_key(name, epoch)
if newer then
  return {2, newer}
end
if fence_of(key or stub, run) then
  return {4}
end
if not key then
  if ARGV[21] ~= '1' or tonumber(ARGV[22]) < stub.closed_seq_min then
    return {1, stub.closed_seq_min}
  end
  key = built(name, epoch, tonumber(ARGV[22]), tonumber(ARGV[23]), tonumber(ARGV[24]),
              stub)
  if tonumber(ARGV[25]) > 0 then
    key.ceiling, key.version = 0, tonumber(ARGV[25]) - 1
  end
  for i = 26, #ARGV, 3 do
    local e = entry_of(nil)
    e.flushed = tonumber(ARGV[i + 1])
    e.undone = tonumber(ARGV[i + 2])
    -- The key is gone from Redis, so nothing older is found for the run.
    put_entry(key, ARGV[i], e)
  end
end

-- The run may be closed, and forgotten since.
local open_at = ARGV[21] == '1' and tonumber(ARGV[22]) or 0
if open_at < key.folded_through and not known_entry(key, run) then
  return {1, key.folded_through}
end

local function others_outstanding()
  return math.max(saturated(key.taken - key.used) - outstanding_of(entry(key, run)), 0)
end

-- Escrow of others that might still come back to the want in `place`.
local function returnable(place)
  local want = place and key.wants[place]
  if not want then
    return others_outstanding()
  end
  local sum = 0
  for other, e in pairs(entries(key)) do
    if other ~= run and e.answered < want.ticket then
      sum = sum + outstanding_of(e)
    end
  end
  return math.min(sum, AMOUNT_MAX)
end

local MET, FIRST, BEHIND, REFUSED, RECOVERING, OVERTAKEN = 0, 1, 2, 3, 4, 5

local function lend()
  local e = copy(entry(key, run))
  if key.wants[1] and key.wants[1].ticket == depose then
    table.remove(key.wants, 1)
  end
  local function beyond(to)
    return math.max(to - e.granted, 0)
  end
  local need, free = beyond(tonumber(ARGV[14])), free_of(key)
  drop_wants(key, run, need > 0 and tonumber(ARGV[13]) or nil)
  local place
  for i, want in ipairs(key.wants) do
    if want.run == run then
      place = i
      break
    end
  end
  local ahead = (place or #key.wants + 1) > 1
  local room = math.max(AMOUNT_MAX - e.granted, 0)
  local outcome
  if need > room then
    drop_wants(key, run)
    outcome = REFUSED
  elseif need > 0 and (ahead or need > free) then
    if last or need > free + returnable(place) then
      drop_wants(key, run)
      outcome = REFUSED
    else
      if not place and #key.wants < WANTS_MAX then
        key.tickets = key.tickets + 1
        key.wants[#key.wants + 1] = {run = run, id = tonumber(ARGV[13]), ticket = key.tickets}
      end
      outcome = key.wants[1].run == run and FIRST or BEHIND
    end
  else
    drop_wants(key, run)
    outcome = MET
  end

  local returned_all = closed and tonumber(ARGV[6]) == e.granted
  local grant = 0
  if outcome == MET then
    local wanted = math.max(beyond(tonumber(ARGV[15])), need)
    grant = (need > 0 and wanted <= free) and wanted or need
    -- Only wants of others are left in the queue.
    if #key.wants == 0 then
      local remaining = math.max(free - grant, 0)
      local others = key.holders - (outstanding_of(e) > 0 and 1 or 0)
      local extra = math.max(beyond(tonumber(ARGV[16])) - grant, 0)
      grant = grant + math.min(extra, math.floor(remaining / (2 * (others + 1))))
    end
  end
  e.granted = e.granted + math.min(grant, room)
  e.answered = (returned_all and grant == 0) and key.tickets or 0
  put_entry(key, run, e)
  return outcome
end

local first_before = key.wants[1] and key.wants[1].ticket
local taken_before = key.taken
local e = copy(entry(key, run))
local overtaken = sequence <= e.sequence

if e.sequence < TELLS or sequence >= TELLS then
  e.granted = math.max(e.granted, tonumber(ARGV[6]))
  e.returned = math.max(e.returned, tonumber(ARGV[7]))
  e.consumed = math.max(e.consumed, tonumber(ARGV[8]))
  e.recorded = math.max(e.recorded, tonumber(ARGV[9]))
  e.undone = math.max(e.undone, tonumber(ARGV[10]))
end
if not overtaken then
  e.sequence = sequence
end
put_entry(key, run, e)
recount(key)

local ceiling, version = tonumber(ARGV[11]), tonumber(ARGV[12])
local lowered = false
if not key.version or key.version < version then
  if key.version then
    local before = key.ceiling < 0 and AMOUNT_MAX or key.ceiling
    local now = ceiling < 0 and AMOUNT_MAX or ceiling
    lowered = now < before
  end
  key.ceiling, key.version = ceiling, version
end
lowered = lowered and free_of(key) < 0 and key.taken > key.used
if lowered then
  key.tickets = key.tickets + 1
end
local released = key.taken < taken_before

local outcome
if overtaken then
  outcome = OVERTAKEN
elseif not recovered then
  outcome = RECOVERING
else
  outcome = lend()
end

write_key(key, tonumber(ARGV[20]))

local first = key.wants[1]
local told
if first then
  local changed = first_before ~= first.ticket
  local repeated = first.run == run and outcome == FIRST
  if changed or released or repeated or lowered then
    told = text(lowered and key.tickets or first.ticket) .. ' ' .. first.run
  end
elseif lowered then
  told = text(key.tickets) .. ' -'
end
if told then
  redis.call('PUBLISH', CHANNEL, told .. ' ' .. run .. ' ' .. name)
end

local mine, free = entry(key, run), free_of(key)
local recalled = free < 0 or (first ~= nil and first.run ~= run)
return {0, mine.granted, mine.returned, mine.consumed, mine.recorded, mine.undone,
        free, saturated(key.base + key.used), key.forfeited, others_outstanding(),
        key.ceiling, key.version, outcome, first and first.ticket or 0,
        recalled and 1 or 0, mine.answered}
