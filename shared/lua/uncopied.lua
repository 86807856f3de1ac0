-- uncopied: conversations in which something waits to be copied for long.
-- KEYS[1] meta   ARGV tag, age in ms, most conversations
-- What seems to be of the future is from before the clock was set back, and has waited as well.
local FUTURE = 60000 -- ms

redis.register_function{
  function_name = 'tidegate_v1_uncopied',
  callback = function(_, a)
    local fanout, now, most = a[1] .. ':fanout', now_ms(), tonumber(a[3])
    local found = redis.call('ZRANGEBYSCORE', fanout, '-inf', '(' .. int(now - tonumber(a[2])), 'LIMIT', 0, most)
    local ahead = redis.call('ZRANGEBYSCORE', fanout, int(now + FUTURE), '+inf', 'LIMIT', 0, most - #found)
    for _, conversation in ipairs(ahead) do found[#found + 1] = conversation end
    return found
  end,
  flags = {'no-writes'},
}
