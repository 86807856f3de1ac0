-- session_keep: sessions that are open on a node, told again when Redis may have lost or reaped
-- them, or when the node may not have heard that they were displaced.
-- KEYS[1] meta   ARGV node, incarnation, most sessions of a user, then seven per session: tag, user,
--                     session, device, name of its dialect, '1' if its client did nothing for long or '',
--                     '1' if it is told of calls or ''
-- Answers 1 per session that is registered now, 0 per session for which there is no room.
redis.register_function{
  function_name = 'tidegate_v1_session_keep',
  callback = function(_, a)
    local node, incarnation, most = a[1], a[2], tonumber(a[3])
    local now, answers = now_ms(), {}
    for i = 4, #a, 7 do
      local tag, user, session = a[i], a[i + 1], a[i + 2]
      local sessions, kept = key(tag, 'sess', user), 1
      local record = redis.call('HGET', sessions, session)
      if record then
        -- What it is told of may be what a failover lost.
        local changed = ending_so(record, a[i + 6] ~= '1', is_idle(record))
        if changed and changed ~= record then redis.call('HSET', sessions, session, changed) end
      else
        local open = redis.call('HLEN', sessions)
        if open < most then
          local record = {node, incarnation, a[i + 3], int(now), a[i + 4]}
          redis.call('HSET', sessions, session, table.concat(record, ' ') .. ending(a[i + 6] ~= '1', a[i + 5] == '1'))
          if open == 0 then returned(tag, user) end
          reflect(tag, user, now, derived(tag, user))
        else
          kept = 0
        end
      end
      if kept == 1 then
        redis.call('SADD', key(tag, 'at', node), incarnation .. ' ' .. user .. ' ' .. session)
      end
      answers[#answers + 1] = kept
    end
    return answers
  end,
  flags = {'allow-oom'}, -- as session_open
}
