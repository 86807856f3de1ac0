-- reading, read_upto: how far devices have read conversations of which nothing is copied.
--
-- What is known of a reader is a hash (`{pN}:reader:<conversation>:<user>`), in the conversation's
-- partition:
--   <device>  how far the device has confirmed the conversation's log, `<epoch>:<offset>:<ms>`
--   *         the furthest of all devices, `<epoch>:<offset>`
--   =         the version by which the user joined: cursors of an earlier time there count no more
-- It is forgotten when none of the user's devices has read anything for so long.
local READER_TTL = 14 * 86400000  -- ms
local READER_DEVICES = 16         -- most devices of a reader; the longest unseen goes first

local function reader_key(tag, conversation, user) return key(tag, 'reader', conversation .. ':' .. user) end

-- reading   KEYS[1] meta   ARGV tag, conversation, user, device, version by which the user joined
-- Answers what `standing` does, and: where the last message stands that was not copied, '0:0' if none
-- was; how far the device has read or ''; how far the furthest has or ''. All of one instant.
redis.register_function{
  function_name = 'tidegate_v1_reading',
  callback = function(_, a)
    local tag, conversation, user = a[1], a[2], a[3]
    local answer = standing(tag, 'conversation:' .. conversation)
    local uncopied = redis.call('HGET', key(tag, 'head', 'conversation:' .. conversation), 'u')
    local at = redis.call('HMGET', reader_key(tag, conversation, user), '=', a[4], '*')
    if at[1] ~= a[5] then at = {} end
    answer[3] = uncopied or '0:0'
    answer[4] = at[2] and string.match(at[2], '^%d+:%d+') or ''
    answer[5] = at[3] or ''
    return answer
  end,
  flags = {'no-writes'},
}

local function forget_reader(reader)
  local longest, least
  local flat = redis.call('HGETALL', reader)
  for i = 1, #flat, 2 do
    local seen = tonumber(string.match(flat[i + 1], '^%d+:%d+:(%d+)$'))
    if seen and (not least or seen < least) then longest, least = flat[i], seen end
  end
  if longest then redis.call('HDEL', reader, longest) end
end

local function read_one(tag, conversation, user, device, joined, position, now)
  local reader = reader_key(tag, conversation, user)
  local at = redis.call('HMGET', reader, '=', device, '*')
  if at[1] and tonumber(at[1]) > tonumber(joined) then return 0 end
  if at[1] and at[1] ~= joined then
    redis.call('DEL', reader)
    at = {}
  end
  local e, n = pair(position)
  local de, dn = cursor_of(at[2])
  if at[2] and not is_before(de, dn, e, n) then return 0 end
  if not at[2] and redis.call('HLEN', reader) >= READER_DEVICES + 2 then forget_reader(reader) end
  local fe, fn = cursor_of(at[3])
  local furthest = position
  if at[3] and not is_before(fe, fn, e, n) then furthest = at[3] end
  redis.call('HSET', reader, '=', joined, device, position .. ':' .. int(now), '*', furthest)
  redis.call('PEXPIRE', reader, READER_TTL)
  return 1
end

-- read_upto   KEYS meta of each partition touched
-- ARGV six per confirmation: tag, conversation, user, device, version by which the user joined, position
-- Cursors only go forward. Answers how many moved.
redis.register_function{
  function_name = 'tidegate_v1_read_upto',
  callback = function(_, a)
    local now, moved = now_ms(), 0
    for i = 1, #a, 6 do
      moved = moved + read_one(a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], a[i + 5], now)
    end
    return moved
  end,
  flags = {'allow-oom'}, -- as ack
}
