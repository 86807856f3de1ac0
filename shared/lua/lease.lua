-- lease and release: one owner at a time of a named thing, with a fencing token.
-- KEYS[1] the lease: a hash {owner, token, until and ttl in ms}, kept for the sake of its token
-- A new owner gets a higher token. It is at least the time in ms, so it also rises after Redis
-- lost everything. A lease that has more than its ttl left is from before the clock of Redis was
-- set back. It has lapsed: otherwise it would last longer by as much if its owner is dead.

-- lease   ARGV owner, ttl in ms   Answers the token, or nothing if another owns it.
redis.register_function{
  function_name = 'tidegate_v1_lease',
  callback = function(keys, a)
    local now = now_ms()
    local held = redis.call('HMGET', keys[1], 'owner', 'token', 'until', 'ttl')
    local left = (tonumber(held[3]) or 0) - now
    local valid = left > 0 and left <= (tonumber(held[4]) or 0)
    if valid and held[1] ~= a[1] then return false end
    local token = tonumber(held[2]) or 0
    if not valid then token = math.max(token + 1, now) end
    redis.call('HSET', keys[1], 'owner', a[1], 'token', int(token),
      'until', int(now + tonumber(a[2])), 'ttl', a[2])
    return int(token)
  end,
  flags = {'allow-oom'},
}

-- release   ARGV owner   Answers 1 if it was the owner's.
redis.register_function{
  function_name = 'tidegate_v1_release',
  callback = function(keys, a)
    if redis.call('HGET', keys[1], 'owner') ~= a[1] then return 0 end
    redis.call('HSET', keys[1], 'until', '0')
    return 1
  end,
  flags = {'allow-oom'},
}
