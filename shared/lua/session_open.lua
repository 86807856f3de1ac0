-- session_open: registers a session and answers all that the connect path needs.
-- KEYS[1] meta
-- ARGV tag, user, session, device, node, incarnation, most sessions, position or '', most entries,
--      most bytes
-- Answers {cursor, page as of `read`, displaced session, ...}.
local DEVICES = 64                    -- above this many, devices unseen for long are forgotten
local FORGET_AFTER = 14 * 86400000    -- ms

-- Removes the oldest sessions until there is room for one more.
local function displace(tag, user, sessions, most, gone)
  local all, flat = {}, redis.call('HGETALL', sessions)
  for i = 1, #flat, 2 do
    local node, incarnation, since = string.match(flat[i + 1], '^(%S+) (%d+) %S+ (%d+)$')
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

-- Where the device stands. A new device begins where the user is furthest and is written down at
-- once: otherwise a confirmation by another device would move it ahead of what it has seen.
local function start_of(tag, user, device, after, now)
  local cursor = key(tag, 'cursor', user)
  local at = redis.call('HMGET', cursor, device, '*')
  local e, n = cursor_of(at[1] or at[2])
  if after ~= '' then e, n = pair(after) end
  local place = int(e) .. ':' .. int(n)
  if not at[1] then
    if redis.call('HLEN', cursor) > DEVICES then
      local flat = redis.call('HGETALL', cursor)
      for i = 1, #flat, 2 do
        local seen = tonumber(string.match(flat[i + 1], ':(%d+)$'))
        if flat[i] ~= '*' and seen < now - FORGET_AFTER then redis.call('HDEL', cursor, flat[i]) end
      end
    end
    if after == '' then redis.call('HSET', cursor, device, place .. ':' .. int(now)) end
  end
  return place, e, n
end

redis.register_function{
  function_name = 'tidegate_v1_session_open',
  callback = function(_, a)
    local tag, user, session, now = a[1], a[2], a[3], now_ms()
    local sessions, gone = key(tag, 'sess', user), {}
    if redis.call('HLEN', sessions) >= tonumber(a[7]) and redis.call('HEXISTS', sessions, session) == 0 then
      displace(tag, user, sessions, tonumber(a[7]), gone)
    end
    redis.call('HSET', sessions, session, a[5] .. ' ' .. a[6] .. ' ' .. a[4] .. ' ' .. int(now))
    redis.call('SADD', key(tag, 'at', a[5]), a[6] .. ' ' .. user .. ' ' .. session)
    local place, e, n = start_of(tag, user, a[4], a[8], now)
    local page = read_page(tag, 'user:' .. user, e, n, tonumber(a[9]), tonumber(a[10]))
    return {place, page, unpack(gone)}
  end,
  flags = {'allow-oom'}, -- bounded by the sockets there are; nobody is locked out by a full log
}
