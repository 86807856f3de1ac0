-- session_hears: whether a session is told of calls, from now on.
-- KEYS[1] meta   ARGV tag, user, session, '1' or ''
-- Answers 1 if the session is open.
redis.register_function{
  function_name = 'tidegate_v1_session_hears',
  callback = function(_, a)
    local sessions = key(a[1], 'sess', a[2])
    local record = redis.call('HGET', sessions, a[3])
    if not record then return 0 end
    local changed = ending_so(record, a[4] ~= '1', is_idle(record))
    if changed then redis.call('HSET', sessions, a[3], changed) end
    return 1
  end,
  flags = {'allow-oom'}, -- nothing grows
}
