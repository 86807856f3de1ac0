-- session_open: registers a session and answers all that the connect path needs.
-- KEYS[1] meta
-- ARGV tag, user, session, device, node, incarnation, most sessions, position or '', most entries,
--      most bytes
-- Answers {cursor, page as of `read`, preferences or '', cursor in the log of broadcasts or '', displaced
-- session, ...}; preferences and the second cursor as they stand in the hash of the user, see ack.lua.
local DEVICES = 100                   -- most devices a user has; the longest unseen goes first
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

-- Makes room for one more device.
local function forget_devices(known, now)
  local devices, flat = {}, redis.call('HGETALL', known)
  for i = 1, #flat, 2 do
    if string.match(flat[i], '^[%w._-]+$') then
      devices[#devices + 1] = {name = flat[i], seen = tonumber(string.match(flat[i + 1], ':(%d+)$'))}
    end
  end
  table.sort(devices, function(x, y) return x.seen < y.seen end)
  for i, device in ipairs(devices) do
    if device.seen >= now - FORGET_AFTER and #devices - i + 1 < DEVICES then break end
    redis.call('HDEL', known, device.name, 'b:' .. device.name)
  end
end

-- Where the device stands. A new device begins where the user is furthest, or where it says if that
-- is before, and is written down at once: otherwise a confirmation by another device would move it
-- ahead of what it has seen.
local function start_of(tag, user, device, after, now)
  local known, broadcasts = key(tag, 'user', user), 'b:' .. device
  local at = redis.call('HMGET', known, device, '*', broadcasts, 'b:*', '=')
  local e, n = cursor_of(at[1] or at[2])
  if not at[1] and redis.call('HLEN', known) >= DEVICES then forget_devices(known, now) end
  local ae, an = e, n
  if after ~= '' then ae, an = pair(after) end
  if not at[1] and is_before(ae, an, e, n) then e, n = ae, an end
  local own = int(e) .. ':' .. int(n) .. ':' .. int(now)
  if at[3] or not at[4] then
    redis.call('HSET', known, device, own)
  else
    redis.call('HSET', known, device, own, broadcasts, at[4])
  end
  return int(ae) .. ':' .. int(an), ae, an, at[5] or '', at[3] or at[4] or ''
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
    local place, e, n, preferences, broadcasts = start_of(tag, user, a[4], a[8], now)
    local page = read_page(tag, 'user:' .. user, e, n, tonumber(a[9]), tonumber(a[10]))
    return {place, page, preferences, broadcasts, unpack(gone)}
  end,
  flags = {'allow-oom'}, -- bounded per user; nobody is locked out by a full log
}
