-- session_open: registers a session and answers all that the connect path needs.
-- KEYS[1] meta
-- ARGV tag, user, session, device, node, incarnation, most sessions, position or '', most entries,
--      most bytes, '1' if it takes the log apart into queues, name of its dialect, '1' if it is told of calls
-- Answers {cursor, page as of `read`, preferences or '', cursor in the log of broadcasts or '', the user's
-- furthest there or '', cursors in the queues separated by blanks, displaced session, ...}; the middle
-- ones as they stand in the hash of the user, see devices.lua.

-- Removes the oldest sessions until there is room for one more.
local function displace(tag, user, sessions, most, gone)
  local all, flat = {}, redis.call('HGETALL', sessions)
  for i = 1, #flat, 2 do
    local node, incarnation, since = string.match(flat[i + 1], '^(%S+) (%d+) %S+ (%d+)')
    all[#all + 1] = {id = flat[i], node = node, incarnation = incarnation, since = tonumber(since) or 0}
  end
  table.sort(all, function(x, y) return x.since < y.since or (x.since == y.since and x.id < y.id) end)
  for i = 1, #all - most + 1 do
    local old = all[i]
    redis.call('HDEL', sessions, old.id)
    if old.node then
      redis.call('SREM', key(tag, 'at', old.node), old.incarnation .. ' ' .. user .. ' ' .. old.id)
    end
    redis.call('SPUBLISH', key(tag, 'ch', 'user:' .. user), '1 displaced ' .. old.id)
    gone[#gone + 1] = old.id
  end
end

-- Where the device stands. A new device begins where the user is furthest, or where it says if that
-- is before, and is written down at once: otherwise a confirmation by another device would move it
-- ahead of what it has seen. (In queues that is left to begin_queue.)
local function start_of(tag, user, device, after, by_queue, now)
  local known, broadcasts = key(tag, 'user', user), 'b:' .. device
  local at = redis.call('HMGET', known, device, '*', broadcasts, 'b:*', '=', unpack(queue_fields(device)))
  local e, n = cursor_of(at[1] or at[2] or least(at[9], at[10], at[11]))
  if not at[1] then
    -- One that took the log apart until now begins where it is least far: the rest comes again.
    for i = 6, 8 do
      if at[i] then
        local qe, qn = cursor_of(at[i])
        if is_before(qe, qn, e, n) then e, n = qe, qn end
      end
    end
  end
  if not (at[1] or at[6] or at[7] or at[8]) then make_room(known, now) end
  local ae, an = e, n
  if after ~= '' then ae, an = pair(after) end
  if not at[1] and is_before(ae, an, e, n) then e, n = ae, an end
  if not by_queue then redis.call('HSET', known, device, int(e) .. ':' .. int(n) .. ':' .. int(now)) end
  if at[4] and not at[3] then redis.call('HSET', known, broadcasts, at[4]) end
  local queues = {}
  for i = 1, 3 do
    local own = at[5 + i] or at[1]
    local qe, qn = cursor_of(own)
    if not own then qe, qn = further(at[2], at[8 + i]) end
    queues[i] = int(qe) .. ':' .. int(qn)
  end
  return ae, an, {at[5] or '', at[3] or at[4] or '', at[4] or '', table.concat(queues, ' ')}
end

redis.register_function{
  function_name = 'tidegate_v1_session_open',
  callback = function(_, a)
    local tag, user, session, now = a[1], a[2], a[3], now_ms()
    local sessions, gone = key(tag, 'sess', user), {}
    local open = redis.call('HLEN', sessions)
    if open >= tonumber(a[7]) and redis.call('HEXISTS', sessions, session) == 0 then
      displace(tag, user, sessions, tonumber(a[7]), gone)
    end
    local record = {a[5], a[6], a[4], int(now), a[12]}
    redis.call('HSET', sessions, session, table.concat(record, ' ') .. ending(a[13] ~= '1', false))
    if open == 0 then returned(tag, user) end
    reflect(tag, user, now, 'online')
    redis.call('SADD', key(tag, 'at', a[5]), a[6] .. ' ' .. user .. ' ' .. session)
    local e, n, known = start_of(tag, user, a[4], a[8], a[11] == '1', now)
    local page = read_page(tag, 'user:' .. user, e, n, tonumber(a[9]), tonumber(a[10]))
    local answer = {int(e) .. ':' .. int(n), page, unpack(known)}
    for _, session in ipairs(gone) do answer[#answer + 1] = session end
    return answer
  end,
  flags = {'allow-oom'}, -- bounded per user; nobody is locked out by a full log
}
