-- lease and release: one owner at a time of a named thing, with a fencing token.
-- KEYS[1] the lease: a hash {owner, token, until in ms}, kept for the sake of its token
-- A new owner gets a higher token. It is at least the time in ms, so it also rises after Redis
-- lost everything.

-- lease   ARGV owner, ttl in ms   Answers the token, or nothing if another owns it.
redis.register_function{
  function_name = 'tidegate_v1_lease',
  callback = function(keys, a)
    local now = now_ms()
    local held = redis.call('HMGET', keys[1], 'owner', 'token', 'until')
    local valid = held[3] and tonumber(held[3]) > now
    if valid and held[1] ~= a[1] then return false end
    local token = tonumber(held[2]) or 0
    if not valid then token = math.max(token + 1, now) end
    redis.call('HSET', keys[1], 'owner', a[1], 'token', int(token), 'until', int(now + tonumber(a[2])))
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
