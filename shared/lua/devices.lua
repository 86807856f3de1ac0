-- What is known of a user is a hash (`{pN}:user:<user>`):
--   <device>          how far the device has confirmed the user's log, `<epoch>:<offset>:<ms>`
--   *                 the furthest of all devices, `<epoch>:<offset>`
--   <queue>:<device>  how far it has confirmed a queue, if it takes the log apart; like <device>
--   <queue>:*         the furthest of all devices
--   b:<device>        how far it has confirmed broadcasts, `<epoch>:<offset>`
--   b:*               the furthest of all devices
--   =                 the user's preferences, `<epoch>:<offset> <JSON>`, or `-`: the record has none
-- The name of a device has no `:`.
local DEVICES = 100                   -- most devices a user has; the longest unseen goes first
local FORGET_AFTER = 14 * 86400000    -- ms

local function cursor_of(value)
  if not value then return 0, 0 end
  local e, n = string.match(value, '^(%d+):(%d+)')
  return tonumber(e), tonumber(n)
end

-- The further of two cursors, as two numbers.
local function further(one, other)
  local ae, an = cursor_of(one)
  local be, bn = cursor_of(other)
  if is_before(ae, an, be, bn) then return be, bn end
  return ae, an
end

-- The least of the cursors, if all are there.
local function least(...)
  local found
  for i = 1, select('#', ...) do
    local cursor = select(i, ...)
    if not cursor then return nil end
    local e, n = cursor_of(cursor)
    if not found or is_before(e, n, cursor_of(found)) then found = cursor end
  end
  return found
end

-- The cursors of queues: of the device, and the furthest.
local function queue_fields(device)
  return {'commands:' .. device, 'messages:' .. device, 'notifications:' .. device,
    'commands:*', 'messages:*', 'notifications:*'}
end

local function forget_devices(known, now)
  local by_name, devices, flat = {}, {}, redis.call('HGETALL', known)
  for i = 1, #flat, 2 do
    local name = string.match(flat[i], '^([%w._-]+)$') or string.match(flat[i], '^%l+:([%w._-]+)$')
    if name then
      local device = by_name[name]
      if not device then
        device = {name = name, seen = 0}
        by_name[name], devices[#devices + 1] = device, device
      end
      -- A cursor among broadcasts does not tell when.
      local seen = tonumber(string.match(flat[i + 1], '^%d+:%d+:(%d+)$')) or 0
      device.seen = math.max(device.seen, seen)
    end
  end
  table.sort(devices, function(x, y) return x.seen < y.seen end)
  for i, device in ipairs(devices) do
    if device.seen >= now - FORGET_AFTER and #devices - i + 1 < DEVICES then break end
    local name = device.name
    redis.call('HDEL', known, name, 'b:' .. name, 'commands:' .. name, 'messages:' .. name, 'notifications:' .. name)
  end
end

-- Makes room for one more device.
local function make_room(known, now)
  if redis.call('HLEN', known) >= DEVICES then forget_devices(known, now) end
end
