-- ack: devices confirmed their user's log up to a position.
-- KEYS meta of each partition touched
-- ARGV six per confirmation: tag, user, device, position, positions in between that were kept from
--      the device, separated by blanks, queue or '' for the whole log
-- Where the furthest moves, Postgres must learn which commands are delivered. Answers how many moved.

-- Tells Postgres what nobody had confirmed before.
local function tell_delivered(tag, user, fe, fn, position, skipped, now, epochs)
  epochs[tag] = epochs[tag] or fence(tag, now)
  local from = int(fe) .. ':' .. int(fn)
  if skipped == '' then
    redis.call('XADD', persist_key(tag), '*', 'delivered', user, 'from', from, 'to', position, 't', int(now))
  else
    redis.call('XADD', persist_key(tag), '*', 'delivered', user, 'from', from, 'to', position, 't', int(now),
      'skip', skipped)
  end
end

local function ack_one(tag, user, device, position, skipped, queue, now, epochs)
  local e, n = pair(position)
  local known, mine, all = key(tag, 'user', user), device, '*'
  if queue ~= '' then mine, all = queue .. ':' .. device, queue .. ':*' end
  local at = redis.call('HMGET', known, mine, all, '*')
  local de, dn = cursor_of(at[1])
  local fe, fn = cursor_of(at[2])
  if at[1] and not is_before(de, dn, e, n) then return 0 end
  local head = redis.call('HMGET', key(tag, 'head', 'user:' .. user), 'e', 'n')
  if not head[1] or is_before(tonumber(head[1]), tonumber(head[2]), e, n) then
    return 0 -- never handed out by this log
  end
  if not is_before(fe, fn, e, n) then
    redis.call('HSET', known, mine, position .. ':' .. int(now))
    return 1
  end
  if queue == 'commands' then fe, fn = further(at[2], at[3]) end
  if queue == '' or (queue == 'commands' and is_before(fe, fn, e, n)) then
    tell_delivered(tag, user, fe, fn, position, skipped, now, epochs)
  end
  redis.call('HSET', known, mine, position .. ':' .. int(now), all, position)
  return 1
end

redis.register_function{
  function_name = 'tidegate_v1_ack',
  callback = function(_, a)
    local now, epochs, moved = now_ms(), {}, 0
    for i = 1, #a, 6 do
      moved = moved + ack_one(a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], a[i + 5], now, epochs)
    end
    return moved
  end,
  flags = {'allow-oom'}, -- small, and what makes trimming possible
}
