-- What lease.lua and close.lua share: one key read into a table, changed there, written back.
-- It mirrors src/leases/key.rs line by line; a test holds the two equal by random histories.
--
-- A key is one hash, laid out in src/store/keys.rs. All numbers are whole and below 2^53 in
-- absolute value, because Lua's numbers are doubles.

local AMOUNT_MAX = 9007199254740991
local WANTS_MAX = 256
local UNFOLDED_FACTOR = 16
local STUB_RETENTION_SECONDS = 7 * 24 * 3600
local CHANNEL = 'tg:recall'
local HEADER = {'e', 'c', 'm', 'b', 'x', 't', 'u', 'h', 'l', 'v', 'n', 'w', 'f', 'o', 'p'}

local function text(number)
  return string.format('%.0f', number)
end

local function entry_of(packed)
  if not packed then
    return {granted = 0, returned = 0, consumed = 0, recorded = 0, undone = 0, flushed = 0,
            sequence = 0, answered = 0}
  end
  local g, r, c, o, n, f, s, a =
    string.match(packed, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  return {granted = tonumber(g), returned = tonumber(r), consumed = tonumber(c),
          recorded = tonumber(o), undone = tonumber(n), flushed = tonumber(f),
          sequence = tonumber(s), answered = tonumber(a)}
end

local function packed_entry(e)
  return table.concat({text(e.granted), text(e.returned), text(e.consumed), text(e.recorded),
                       text(e.undone), text(e.flushed), text(e.sequence), text(e.answered)}, ' ')
end

local function taken_gross(e)
  local escrow = math.max(e.granted - e.returned, e.consumed)
  return math.min(math.max(escrow + e.recorded, e.flushed), AMOUNT_MAX)
end

local function taken_of(e)
  return taken_gross(e) - e.undone
end

local function used_of(e)
  return math.min(math.max(e.consumed + e.recorded, e.flushed), AMOUNT_MAX) - e.undone
end

-- The nearest amount that a double holds exactly.
local function saturated(number)
  return math.max(math.min(number, AMOUNT_MAX), -AMOUNT_MAX)
end

local function outstanding_of(e)
  return taken_of(e) - used_of(e)
end

local function fences_of(packed)
  local fenced = {}
  for run, closed_seq in string.gmatch(packed or '', '(%x+)[+-](%d*)') do
    fenced[#fenced + 1] = {run = run, closed_seq = tonumber(closed_seq)}
  end
  return fenced
end

local function packed_fences(fenced)
  local packed = {}
  for i, fence in ipairs(fenced) do
    packed[i] = fence.run .. (fence.closed_seq and '+' .. text(fence.closed_seq) or '-')
  end
  return table.concat(packed, ' ')
end

local function fence_of(key, run)
  for _, fence in ipairs(key.fenced) do
    if fence.run == run then
      return fence
    end
  end
end

local function is_folded_through(fence, folded_through)
  return fence.closed_seq ~= nil and fence.closed_seq <= folded_through
end

local function remember(key, run, closed_seq, folded_through, fenced_max)
  local fence = fence_of(key, run)
  if fence then
    fence.closed_seq = fence.closed_seq or closed_seq
  else
    key.fenced[#key.fenced + 1] = {run = run, closed_seq = closed_seq}
  end
  local place = 1
  while #key.fenced > fenced_max and place <= #key.fenced do
    if is_folded_through(key.fenced[place], folded_through) then
      local forgotten = table.remove(key.fenced, place)
      key.folded_through = math.max(key.folded_through, forgotten.closed_seq)
    else
      place = place + 1
    end
  end
end

-- The key as of `epoch`, or nil and its stub: what a floor must contain, and who is fenced. A newer
-- epoch as third.
local function read_key(name, epoch)
  local values = redis.call('HMGET', name, unpack(HEADER))
  local known = tonumber(values[1] or '0')
  local stub = {closed_seq_min = 0, fenced = {}, folded_through = 0}
  if known > epoch then
    return nil, stub, known
  end
  if known < epoch then
    return nil, stub
  end
  stub.fenced, stub.folded_through = fences_of(values[13]), tonumber(values[15] or '0')
  if not values[2] then
    stub.closed_seq_min = tonumber(values[3])
    return nil, stub
  end
  local key = {
    name = name, epoch = epoch, closed_seq = tonumber(values[2]), base = tonumber(values[4]),
    forfeited = tonumber(values[5]), taken = tonumber(values[6]), used = tonumber(values[7]),
    holders = tonumber(values[8]), ceiling = tonumber(values[9] or '-1'),
    version = values[10] and tonumber(values[10]), tickets = tonumber(values[11]),
    wants = {}, fenced = stub.fenced, folded_through = stub.folded_through, changed = {},
    overflowed = values[14] == '1',
  }
  for run, id, ticket in string.gmatch(values[12] or '', '(%x+):(%d+):(%d+)') do
    key.wants[#key.wants + 1] = {run = run, id = tonumber(id), ticket = tonumber(ticket)}
  end
  return key
end

local function known_entry(key, run)
  local changed = key.changed[run]
  if changed ~= nil then
    return changed or nil
  end
  local packed = redis.call('HGET', key.name, 'r:' .. run)
  return packed and entry_of(packed) or nil
end

local function entry(key, run)
  return known_entry(key, run) or entry_of(nil)
end

local function add(key, taken, used)
  taken, used = key.taken + taken, key.used + used
  if math.abs(taken) > AMOUNT_MAX or math.abs(used) > AMOUNT_MAX then
    key.overflowed = true
  end
  if key.overflowed then
    taken, used = AMOUNT_MAX, AMOUNT_MAX
  end
  key.taken, key.used = taken, used
end

local function drop_entry(key, run)
  local e = known_entry(key, run)
  if e then
    if outstanding_of(e) > 0 then
      key.holders = key.holders - 1
    end
    add(key, -taken_of(e), -used_of(e))
    key.changed[run] = false
  end
end

-- Adds an entry to the key's sums.
local function count_entry(key, e)
  if outstanding_of(e) > 0 then
    key.holders = key.holders + 1
  end
  if taken_gross(e) == AMOUNT_MAX then
    key.overflowed = true
  end
  add(key, taken_of(e), used_of(e))
end

local function put_entry(key, run, e)
  drop_entry(key, run)
  count_entry(key, e)
  key.changed[run] = e
end

-- All entries by run. It reads the whole key.
local function entries(key)
  local all = {}
  local fields = redis.call('HGETALL', key.name)
  for i = 1, #fields, 2 do
    local run = string.match(fields[i], '^r:(.+)$')
    if run then
      all[run] = entry_of(fields[i + 1])
    end
  end
  for run, e in pairs(key.changed) do
    all[run] = e or nil
  end
  return all
end

-- Adds up anew what had overflowed; up and down apart, so that the order makes no difference.
local function recount(key)
  if not key.overflowed then
    return
  end
  local up, down = {0, 0}, {0, 0}
  for _, e in pairs(entries(key)) do
    if taken_gross(e) == AMOUNT_MAX then
      return
    end
    for i, part in ipairs({taken_of(e), used_of(e)}) do
      up[i], down[i] = up[i] + math.max(part, 0), down[i] + math.max(-part, 0)
    end
  end
  if math.max(up[1], up[2], down[1], down[2]) <= AMOUNT_MAX then
    key.taken, key.used, key.overflowed = up[1] - down[1], up[2] - down[2], false
  end
end

local function copy(e)
  local c = {}
  for name, value in pairs(e) do
    c[name] = value
  end
  return c
end

-- A new key in place of whatever was there.
local function built(name, epoch, closed_seq, base, forfeited, stub)
  redis.call('DEL', name)
  return {name = name, epoch = epoch, closed_seq = closed_seq, base = base, forfeited = forfeited,
          taken = 0, used = 0, holders = 0, ceiling = -1, version = nil, tickets = 0,
          wants = {}, fenced = stub.fenced, folded_through = stub.folded_through, changed = {},
          overflowed = false}
end

local function write_key(key, retention)
  local wants = {}
  for i, want in ipairs(key.wants) do
    wants[i] = want.run .. ':' .. text(want.id) .. ':' .. text(want.ticket)
  end
  local fields = {
    'e', text(key.epoch), 'c', text(key.closed_seq), 'b', text(key.base),
    'x', text(key.forfeited), 't', text(key.taken), 'u', text(key.used),
    'h', text(key.holders), 'n', text(key.tickets), 'w', table.concat(wants, ' '),
    'f', packed_fences(key.fenced), 'p', text(key.folded_through),
    'o', key.overflowed and '1' or '0',
  }
  if key.version then
    fields[#fields + 1] = 'l'
    fields[#fields + 1] = text(key.ceiling)
    fields[#fields + 1] = 'v'
    fields[#fields + 1] = text(key.version)
  end
  for run, e in pairs(key.changed) do
    if e then
      fields[#fields + 1] = 'r:' .. run
      fields[#fields + 1] = packed_entry(e)
    else
      redis.call('HDEL', key.name, 'r:' .. run)
    end
  end
  -- In slices, because unpack has a bound.
  for i = 1, #fields, 1000 do
    redis.call('HSET', key.name, unpack(fields, i, math.min(i + 999, #fields)))
  end
  -- What somebody holds is not forgotten, whatever the clock of who is done says.
  if retention >= 0 and key.holders == 0 then
    redis.call('EXPIRE', key.name, retention)
  else
    redis.call('PERSIST', key.name)
  end
end

local function free_of(key)
  if not key.version or key.ceiling < 0 then
    return AMOUNT_MAX
  end
  local taken = AMOUNT_MAX
  if not (key.overflowed or key.base == AMOUNT_MAX or key.forfeited == AMOUNT_MAX) then
    taken = saturated(saturated(key.base + key.taken) + key.forfeited)
  end
  return saturated(key.ceiling - taken)
end

local function drop_wants(key, run, but)
  local kept = {}
  for _, want in ipairs(key.wants) do
    if want.run ~= run or want.id == but then
      kept[#kept + 1] = want
    end
  end
  key.wants = kept
end
