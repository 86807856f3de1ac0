-- ack: devices confirmed their user's log up to a position.
-- KEYS meta of each partition touched   ARGV four per confirmation: tag, user, device, position
-- The cursor hash has a field per device, `<epoch>:<offset>:<ms>`, and `*`, the furthest of all.
-- Where that moves, Postgres must learn that the stretch is delivered. Answers how many moved.
local function cursor_of(value)
  if not value then return 0, 0 end
  local e, n = string.match(value, '^(%d+):(%d+)')
  return tonumber(e), tonumber(n)
end

local function ack_one(tag, user, device, position, now, epochs)
  local e, n = pair(position)
  local cursor = key(tag, 'cursor', user)
  local at = redis.call('HMGET', cursor, device, '*')
  local de, dn = cursor_of(at[1])
  local fe, fn = cursor_of(at[2])
  if at[1] and not is_before(de, dn, e, n) then return 0 end
  local head = redis.call('HMGET', key(tag, 'head', 'user:' .. user), 'e', 'n')
  if not head[1] or is_before(tonumber(head[1]), tonumber(head[2]), e, n) then
    return 0 -- never handed out by this log
  end
  if not is_before(fe, fn, e, n) then
    redis.call('HSET', cursor, device, position .. ':' .. int(now))
    return 1
  end
  epochs[tag] = epochs[tag] or fence(tag, now)
  redis.call('XADD', persist_key(tag), '*', 'delivered', user,
    'from', int(fe) .. ':' .. int(fn), 'to', position, 't', int(now))
  redis.call('HSET', cursor, device, position .. ':' .. int(now), '*', position)
  return 1
end

redis.register_function{
  function_name = 'tidegate_v1_ack',
  callback = function(_, a)
    local now, epochs, moved = now_ms(), {}, 0
    for i = 1, #a, 4 do
      moved = moved + ack_one(a[i], a[i + 1], a[i + 2], a[i + 3], now, epochs)
    end
    return moved
  end,
  flags = {'allow-oom'}, -- small, and what makes trimming possible
}
