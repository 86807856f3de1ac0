-- ack: devices confirmed their user's log up to a position.
-- KEYS meta of each partition touched
-- ARGV five per confirmation: tag, user, device, position, positions in between that were kept from
--      the device, separated by blanks
-- What is known of a user is a hash (`{pN}:user:<user>`):
--   <device>    how far the device has confirmed the user's log, `<epoch>:<offset>:<ms>`
--   *           the furthest of all devices, `<epoch>:<offset>`
--   b:<device>  how far it has confirmed broadcasts, `<epoch>:<offset>`
--   b:*         the furthest of all devices
--   =           the user's preferences, `<epoch>:<offset> <JSON>`, or `-`: the record has none
-- Where the furthest moves, Postgres must learn that the stretch is delivered. Answers how many moved.
local function cursor_of(value)
  if not value then return 0, 0 end
  local e, n = string.match(value, '^(%d+):(%d+)')
  return tonumber(e), tonumber(n)
end

local function ack_one(tag, user, device, position, skipped, now, epochs)
  local e, n = pair(position)
  local known = key(tag, 'user', user)
  local at = redis.call('HMGET', known, device, '*')
  local de, dn = cursor_of(at[1])
  local fe, fn = cursor_of(at[2])
  if at[1] and not is_before(de, dn, e, n) then return 0 end
  local head = redis.call('HMGET', key(tag, 'head', 'user:' .. user), 'e', 'n')
  if not head[1] or is_before(tonumber(head[1]), tonumber(head[2]), e, n) then
    return 0 -- never handed out by this log
  end
  if not is_before(fe, fn, e, n) then
    redis.call('HSET', known, device, position .. ':' .. int(now))
    return 1
  end
  epochs[tag] = epochs[tag] or fence(tag, now)
  local from = int(fe) .. ':' .. int(fn)
  if skipped == '' then
    redis.call('XADD', persist_key(tag), '*', 'delivered', user, 'from', from, 'to', position, 't', int(now))
  else
    redis.call('XADD', persist_key(tag), '*', 'delivered', user, 'from', from, 'to', position, 't', int(now),
      'skip', skipped)
  end
  redis.call('HSET', known, device, position .. ':' .. int(now), '*', position)
  return 1
end

redis.register_function{
  function_name = 'tidegate_v1_ack',
  callback = function(_, a)
    local now, epochs, moved = now_ms(), {}, 0
    for i = 1, #a, 5 do
      moved = moved + ack_one(a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], now, epochs)
    end
    return moved
  end,
  flags = {'allow-oom'}, -- small, and what makes trimming possible
}
