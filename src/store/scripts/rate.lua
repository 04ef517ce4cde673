-- One call of one run about a rate: leases::rate::shared::SharedRate::apply.
-- KEYS: the rate.
-- ARGV: 1 run, 2 sequence, 3 granted, 4 spent, 5 lapse in microseconds, 6 ahead, 7 the tenant's version,
--   8 number of windows; period in seconds, permits, burst and interval in nanoseconds of each, the
--   shortest first; number of asks; permits and 1 = lent or 0 = charged of each; then, for tests alone,
--   the time in microseconds.
-- Answer: {0, granted, met, 1 = lapsed before, debt with what is held of each window in nanoseconds ...};
--   where other terms than the call's are in force {2, granted, met, 1 = lapsed before, version, period,
--   permits, burst and debt of each ...}; overtaken {1}.

local CAPACITY_MAX = 2 ^ 52
-- Lua's stack holds some 8,000 arguments of one call.
local FIELDS_MAX = 1000
local name, run = KEYS[1], ARGV[1]
local sequence, granted, spent = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lapse, ahead = tonumber(ARGV[5]), tonumber(ARGV[6])
local version = tonumber(ARGV[7])
local place = 8

local function argument()
  place = place + 1
  return tonumber(ARGV[place])
end

local asked = {}
for i = 1, tonumber(ARGV[8]) do
  asked[i] = {period = argument(), permits = argument(), burst = argument(), interval = argument()}
end
local asks = {}
for i = 1, argument() do
  asks[i] = {permits = argument(), lent = argument() == 1}
end
local now = argument()
local is_own_time = not now
if is_own_time then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function text(number)
  return string.format('%.0f', number)
end

-- Field t is when the debts were reckoned, v the version that the windows in force are of, w<period> is
-- "permits burst interval debt in_force", r<run> is "sequence spent granted lapses".
local at, stored_version, windows, entries = 0, 0, {}, {}
local stored = redis.call('HGETALL', name)
for i = 1, #stored, 2 do
  local field, kind, value = stored[i], string.sub(stored[i], 1, 1), stored[i + 1]
  if kind == 't' then
    at = tonumber(value)
  elseif kind == 'v' then
    stored_version = tonumber(value)
  elseif kind == 'w' then
    local p, b, i, d, f = string.match(value, '^(%d+) (%d+) (%d+) (%d+) (%d)$')
    local period = tonumber(string.sub(field, 2))
    windows[period] = {
      period = period, permits = tonumber(p), burst = tonumber(b), interval = tonumber(i),
      debt = tonumber(d), in_force = f == '1',
    }
  else
    local s, p, g, l = string.match(value, '^(%d+) (%d+) (%d+) (%d+)$')
    entries[string.sub(field, 2)] = {
      sequence = tonumber(s), spent = tonumber(p), granted = tonumber(g), lapses = tonumber(l),
    }
  end
end

local function pay_off(to)
  local paid = math.max(to - at, 0) * 1000
  at = math.max(at, to)
  for _, window in pairs(windows) do
    window.debt = math.max(window.debt - paid, 0)
  end
end

local function charge(permits)
  for _, window in pairs(windows) do
    window.debt = math.min(window.debt + permits * window.interval, 2 * CAPACITY_MAX)
  end
end

local held = 0
-- The windows in force, the shortest first.
local in_force = {}

local function find_in_force()
  in_force = {}
  for _, window in pairs(windows) do
    if window.in_force then
      in_force[#in_force + 1] = window
    end
  end
  table.sort(in_force, function(one, other) return one.period < other.period end)
end

local function room()
  local least
  for _, window in ipairs(in_force) do
    local free = window.burst * window.interval - window.debt - held * window.interval
    free = math.floor(math.max(free, 0) / window.interval)
    least = math.min(least or free, free)
  end
  return least or 0
end

local function store()
  redis.call('DEL', name)
  local fields, longest = {'t', text(at), 'v', text(stored_version)}, 0
  for period, window in pairs(windows) do
    fields[#fields + 1] = 'w' .. text(period)
    fields[#fields + 1] = table.concat({text(window.permits), text(window.burst), text(window.interval),
                                        text(window.debt), window.in_force and '1' or '0'}, ' ')
    longest = math.max(longest, window.debt + held * window.interval)
  end
  local latest = at
  for of, e in pairs(entries) do
    fields[#fields + 1] = 'r' .. of
    fields[#fields + 1] = table.concat({text(e.sequence), text(e.spent), text(e.granted),
                                        text(e.lapses)}, ' ')
    latest = math.max(latest, e.lapses)
  end
  for first = 1, #fields, FIELDS_MAX do
    redis.call('HSET', name, unpack(fields, first, math.min(first + FIELDS_MAX - 1, #fields)))
  end
  if is_own_time then
    -- A rate that owes nothing is as good as new. A second more costs nothing.
    redis.call('PEXPIRE', name, text(math.ceil(longest / 1000000 + (latest - at) / 1000) + 1000))
  end
end

if now < at then
  for _, e in pairs(entries) do
    e.lapses = math.max(e.lapses - (at - now), 0)
  end
  at = now
end
while true do
  local first
  for of, e in pairs(entries) do
    local before = first and entries[first]
    if e.lapses <= now
        and (not before or e.lapses < before.lapses
             or (e.lapses == before.lapses and of < first)) then
      first = of
    end
  end
  if not first then
    break
  end
  local e = entries[first]
  entries[first] = nil
  pay_off(e.lapses)
  charge(e.granted - e.spent)
end
pay_off(now)

-- Newer terms are put in force once: debts are converted, and cut to the bursts.
find_in_force()
if #in_force == 0 or version > stored_version then
  stored_version = version
  for _, window in pairs(windows) do
    window.in_force = false
  end
  for _, limit in ipairs(asked) do
    local window = windows[limit.period] or {debt = 0, interval = limit.interval}
    local is_same = window.permits == limit.permits and window.burst == limit.burst
    limit.debt, limit.in_force = window.debt, true
    if window.interval ~= limit.interval then
      limit.debt = math.min(math.ceil(window.debt / window.interval * limit.interval), CAPACITY_MAX)
    end
    if not is_same then
      limit.debt = math.min(limit.debt, limit.burst * limit.interval)
    end
    windows[limit.period] = limit
  end
end
for period, window in pairs(windows) do
  if window.debt == 0 and not window.in_force then
    windows[period] = nil
  end
end
find_in_force()

local before = entries[run]
if before and sequence <= before.sequence then
  for _, e in pairs(entries) do
    held = held + e.granted - e.spent
  end
  store()
  return {1}
end
charge(before and math.max(spent - before.spent, 0) or 0)
local has_lapsed = 0
if not before and granted > spent then
  -- Without an entry, all that the run was lent has been charged or given back.
  spent, has_lapsed = granted, 1
end
entries[run] = {sequence = sequence, spent = spent, granted = granted, lapses = now + lapse}
for _, e in pairs(entries) do
  held = held + e.granted - e.spent
end
local met, bit, lent, all = 0, 1, 0, true
for _, ask in ipairs(asks) do
  if room() < ask.permits then
    all = false
  else
    met = met + bit
    if ask.lent then
      lent = lent + ask.permits
      held = held + ask.permits
    else
      charge(ask.permits)
    end
  end
  bit = bit * 2
end
if all then
  ahead = math.min(ahead, math.floor(room() / 4))
  lent = lent + ahead
  held = held + ahead
end
granted = granted + lent
if granted > spent then
  entries[run].granted = granted
else
  entries[run] = nil
end
store()
local is_own = version == stored_version and #asked == #in_force
for i, window in ipairs(in_force) do
  local own = asked[i]
  is_own = is_own and own.period == window.period and own.permits == window.permits
    and own.burst == window.burst
end
local answer = is_own and {0, granted, met, has_lapsed}
  or {2, granted, met, has_lapsed, stored_version}
for _, window in ipairs(in_force) do
  if not is_own then
    answer[#answer + 1] = window.period
    answer[#answer + 1] = window.permits
    answer[#answer + 1] = window.burst
  end
  answer[#answer + 1] = window.debt + held * window.interval
end
return answer
