-- heartbeat, announce, incarnation, leave: the signs of life of a node.
-- The key of a node holds its incarnation and for how many ms a sign counts. One that has more
-- than that left is from before the clock of Redis was set back, and no sign of life.
local function incarnation_of(node)
  local number, ttl = string.match(redis.call('GET', node) or '', '^(%d+) (%d+)$')
  if not number or redis.call('PTTL', node) > tonumber(ttl) then return false end
  return number
end

-- heartbeat   KEYS[1] node   ARGV incarnation, ttl in ms   Answers 1 if it lived until now.
redis.register_function{
  function_name = 'tidegate_v1_heartbeat',
  callback = function(keys, a)
    local lived = incarnation_of(keys[1]) == a[1]
    redis.call('SET', keys[1], a[1] .. ' ' .. a[2], 'PX', a[2])
    return lived and 1 or 0
  end,
  flags = {'allow-oom'}, -- else every node would look dead when memory is full
}

-- announce   KEYS[1] nodes   ARGV node, incarnation
redis.register_function{
  function_name = 'tidegate_v1_announce',
  callback = function(keys, a) return redis.call('HSET', keys[1], a[1], a[2]) end,
  flags = {'allow-oom'},
}

-- incarnation   KEYS[1] node   Answers which is alive, if one is.
redis.register_function{
  function_name = 'tidegate_v1_incarnation',
  callback = function(keys) return incarnation_of(keys[1]) end,
  flags = {'no-writes'},
}

-- leave   KEYS[1] node   ARGV incarnation   Answers 1 if that was alive.
redis.register_function{
  function_name = 'tidegate_v1_leave',
  callback = function(keys, a)
    if incarnation_of(keys[1]) ~= a[1] then return 0 end
    return redis.call('DEL', keys[1])
  end,
  flags = {'allow-oom'},
}
