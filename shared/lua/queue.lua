-- begin_queue, nack: devices that take the user's log apart into queues.

-- begin_queue   KEYS[1] meta   ARGV tag, user, device, queue, position
-- Answers 1 if the device had no cursor in the queue; it has one now.
redis.register_function{
  function_name = 'tidegate_v1_begin_queue',
  callback = function(_, a)
    local known, mine, now = key(a[1], 'user', a[2]), a[4] .. ':' .. a[3], now_ms()
    return redis.call('HSETNX', known, mine, a[5] .. ':' .. int(now))
  end,
  flags = {'allow-oom'}, -- as session_open
}

local NACKS = 256                -- most entries whose refusals are counted; the first of the log go first
local NACKS_TTL = 14 * 86400000  -- ms

-- Makes room for one that has just been counted.
local function forget_nacks(nacks, latest)
  local first, fe, fn
  for _, name in ipairs(redis.call('HKEYS', nacks)) do
    local e, n = pair(string.match(name, ':(%d+:%d+)$'))
    if name ~= latest and (not first or is_before(e, n, fe, fn)) then first, fe, fn = name, e, n end
  end
  redis.call('HDEL', nacks, first)
end

-- nack   KEYS[1] meta   ARGV tag, user, `<queue, or b>:<device>:<epoch>:<offset>`
-- Answers how often the device refused the entry.
redis.register_function{
  function_name = 'tidegate_v1_nack',
  callback = function(_, a)
    local nacks = key(a[1], 'nack', a[2])
    local count = redis.call('HINCRBY', nacks, a[3], 1)
    redis.call('PEXPIRE', nacks, NACKS_TTL)
    if count == 1 and redis.call('HLEN', nacks) > NACKS then forget_nacks(nacks, a[3]) end
    return count
  end,
  flags = {'allow-oom'}, -- bounded per user
}
