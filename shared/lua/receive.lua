-- receive: devices confirmed broadcasts up to a position.
-- KEYS meta of each partition touched
-- ARGV five per confirmation: tag, user, device, position in the log of broadcasts, ids of the commands
--      that are new to the device, separated by blanks
-- One record per partition tells Postgres who has what, however many users there are. Answers how many
-- cursors moved.
local function receive_one(tag, user, device, position, commands, lines)
  local e, n = pair(position)
  local known, mine = key(tag, 'user', user), 'b:' .. device
  local at = redis.call('HMGET', known, mine, 'b:*')
  if commands ~= '' then lines[tag] = (lines[tag] or '') .. user .. ' ' .. commands .. '\n' end
  local de, dn = cursor_of(at[1])
  if at[1] and not is_before(de, dn, e, n) then return 0 end
  local fe, fn = cursor_of(at[2])
  if at[2] and not is_before(fe, fn, e, n) then
    redis.call('HSET', known, mine, position)
  else
    redis.call('HSET', known, mine, position, 'b:*', position)
  end
  return 1
end

redis.register_function{
  function_name = 'tidegate_v1_receive',
  callback = function(_, a)
    local now, lines, moved = now_ms(), {}, 0
    for i = 1, #a, 5 do
      moved = moved + receive_one(a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], lines)
    end
    for tag, text in pairs(lines) do
      fence(tag, now)
      redis.call('XADD', persist_key(tag), '*', 'received', text, 't', int(now))
    end
    return moved
  end,
  flags = {'allow-oom'}, -- as ack
}
