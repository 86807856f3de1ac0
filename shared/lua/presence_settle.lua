-- presence_settle: users whose last session ended, and who did not come back in time, are gone.
-- KEYS meta of each partition   ARGV most users, tag, ...
-- Answers the users who are gone now, partition by partition; each once, whoever calls.

-- Forgets what they said of themselves. Answers since when others take them for gone, if that is news.
local function go(tag, user, now)
  local known = presence_key(tag, user)
  local at = redis.call('HMGET', known, 's', 'v', 'l')
  redis.call('HDEL', known, 'w', 'x', 'l')
  local seen
  if at[1] and at[1] ~= 'offline' then
    seen = at[3] or int(now)
    show(tag, user, now, known, 'offline', '', at[2], seen)
  end
  redis.call('PEXPIRE', known, PRESENCE_TTL)
  return seen
end

redis.register_function{
  function_name = 'tidegate_v1_presence_settle',
  callback = function(_, a)
    local now, room, gone = now_ms(), tonumber(a[1]), {}
    for i = 2, #a do
      if room == 0 then break end
      local tag, lines = a[i], ''
      for _, user in ipairs(redis.call('ZRANGE', offline_key(tag), '-inf', int(now), 'BYSCORE', 'LIMIT', 0, room)) do
        redis.call('ZREM', offline_key(tag), user)
        if redis.call('EXISTS', key(tag, 'sess', user)) == 0 then
          local seen = go(tag, user, now)
          if seen then lines = lines .. user .. ' ' .. seen .. '\n' end
          gone[#gone + 1] = user
          room = room - 1
        end
      end
      if lines ~= '' then record_seen(tag, now, lines) end
    end
    return gone
  end,
  flags = {'allow-oom'}, -- as session_close
}
