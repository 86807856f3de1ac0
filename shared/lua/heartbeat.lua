-- heartbeat and announce: this incarnation of a node lives for another while.

-- heartbeat   KEYS[1] node   ARGV incarnation, ttl in ms   Answers 1 if it lived until now.
redis.register_function{
  function_name = 'tidegate_v1_heartbeat',
  callback = function(keys, a)
    if redis.call('GET', keys[1]) == a[1] then
      redis.call('PEXPIRE', keys[1], a[2])
      return 1
    end
    redis.call('SET', keys[1], a[1], 'PX', a[2])
    return 0
  end,
  flags = {'allow-oom'}, -- else every node would look dead when memory is full
}

-- announce   KEYS[1] nodes   ARGV node, incarnation
redis.register_function{
  function_name = 'tidegate_v1_announce',
  callback = function(keys, a) return redis.call('HSET', keys[1], a[1], a[2]) end,
  flags = {'allow-oom'},
}
