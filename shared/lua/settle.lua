-- settle: a write, so that a barrier behind it covers all that the server held before.
-- KEYS[1] meta   ARGV tag
local SETTLED_TTL = 60000 -- ms

redis.register_function{
  function_name = 'tidegate_v1_settle',
  callback = function(_, a)
    redis.call('SET', a[1] .. ':settled', '1', 'PX', SETTLED_TTL)
    return 1
  end,
  flags = {'allow-oom'}, -- what is settled can be trimmed
}
