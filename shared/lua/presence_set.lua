-- presence_set: what a user says of themselves.
-- KEYS[1] meta   ARGV tag, user, session, status, '=' and the text or '' to leave that as it is
-- A status counts until they set another one, `online` takes it back; both end when they are gone.
-- Answers as `presences` does for one user; nothing if the session is not open.
-- presence_idle: sessions whose clients did nothing for long, or do something again.
-- KEYS meta of each partition   ARGV four per session: tag, user, session, '1' if it is idle or ''

local function set_idle(tag, user, session, idle)
  local sessions = key(tag, 'sess', user)
  local record = redis.call('HGET', sessions, session)
  if not record then return false end
  if is_idle(record) ~= idle then
    local changed = ending_so(record, is_deaf(record), idle)
    if changed then redis.call('HSET', sessions, session, changed) end
  end
  return true
end

redis.register_function{
  function_name = 'tidegate_v1_presence_set',
  callback = function(_, a)
    local tag, user, status, now = a[1], a[2], a[4], now_ms()
    -- Who says something is there.
    if not set_idle(tag, user, a[3], false) then return {} end
    local known = presence_key(tag, user)
    local at = redis.call('HMGET', known, 's', 'x', 'v', 't')
    local text = a[5] == '' and at[2] or string.sub(a[5], 2)
    text = text or ''
    if text == '' then redis.call('HDEL', known, 'x') else redis.call('HSET', known, 'x', text) end
    if status == 'online' then redis.call('HDEL', known, 'w') else redis.call('HSET', known, 'w', status) end
    if at[1] == status and (text == (at[2] or '') or status == 'offline') then
      local devices = status == 'offline' and 0 or redis.call('HLEN', key(tag, 'sess', user))
      return {at[3], status, int(devices), at[4] or '-', status == 'offline' and '' or text}
    end
    local seen = status == 'offline' and int(now) or nil
    if seen then record_seen(tag, now, user .. ' ' .. seen .. '\n') end
    redis.call('PERSIST', known)
    return show(tag, user, now, known, status, text, at[3], seen)
  end,
  flags = {'allow-oom'}, -- bounded per user; whoever wants to hide cannot wait for memory
}

redis.register_function{
  function_name = 'tidegate_v1_presence_idle',
  callback = function(_, a)
    local now = now_ms()
    for i = 1, #a, 4 do
      local tag, user, idle = a[i], a[i + 1], a[i + 3] == '1'
      if set_idle(tag, user, a[i + 2], idle) then
        reflect(tag, user, now, idle and derived(tag, user) or 'online')
      end
    end
  end,
  flags = {'allow-oom'}, -- nothing grows
}
