-- How users appear to others: what follows from their sessions and from what they say of themselves.
-- `presence:<user>` is a hash: s(tatus that was told), w(anted status, if the user set one), x (text),
-- t (ms, when somebody who looks offline was last seen), l (ms, when the last session ended), v(ersion).
-- `offline` is a zset: users without a session, by the ms from which on they are gone.
local PRESENCE_TTL = 600000 -- ms; later Postgres tells when somebody was seen

local function presence_key(tag, user) return key(tag, 'presence', user) end
local function offline_key(tag) return tag .. ':offline' end

-- What a session's record ends with, after its dialect: that it is not told of calls, if so, and whether
-- its client did nothing for long.
local DEAF, IDLE, ACTIVE = ' deaf', ' idle', ' active'
local RECORD = '^%S+ %d+ %S+ %d+ %S+' -- node, incarnation, device, since, dialect
local function is_idle(session) return string.sub(session, -#IDLE) == IDLE end
local function is_deaf(session) return string.match(session, RECORD .. DEAF .. ' ') ~= nil end

-- How a session's record ends.
local function ending(deaf, idle) return (deaf and DEAF or '') .. (idle and IDLE or ACTIVE) end

-- The same record with another end; nothing for one of an earlier release.
local function ending_so(session, deaf, idle)
  local start = string.match(session, RECORD)
  return start and start .. ending(deaf, idle)
end

-- What their sessions alone say of a user; nothing without any.
local function derived(tag, user)
  local status
  for _, session in ipairs(redis.call('HVALS', key(tag, 'sess', user))) do
    if not is_idle(session) then return 'online' end
    status = 'away'
  end
  return status
end

-- What Postgres has to learn of who was last seen when.
local function record_seen(tag, now, lines)
  fence(tag, now)
  redis.call('XADD', persist_key(tag), '*', 'seen', lines, 't', int(now))
end

-- Tells that a user appears so from now on. Answers what was told, as of `presences`.
local function show(tag, user, now, known, status, text, version, seen)
  local devices = status ~= 'offline' and redis.call('HLEN', key(tag, 'sess', user)) or 0
  local shown = status ~= 'offline' and text or ''
  -- Never lower than before, also where the key was forgotten meanwhile.
  version = math.max((tonumber(version) or 0) + 1, now)
  redis.call('HSET', known, 's', status, 'v', int(version))
  if seen then redis.call('HSET', known, 't', seen) else redis.call('HDEL', known, 't') end
  local words = {int(version), status, int(devices), seen or '-'}
  redis.call('SPUBLISH', key(tag, 'ch', 'presence:' .. user), '1 presence ' .. table.concat(words, ' ') .. '\n' .. shown)
  words[5] = shown
  return words
end

-- The sessions of a user who has some say so; it is told if that changes anything.
local function reflect(tag, user, now, status)
  local known = presence_key(tag, user)
  local at = redis.call('HMGET', known, 's', 'w', 'x', 'v')
  if at[2] or at[1] == status then return end
  redis.call('PERSIST', known)
  show(tag, user, now, known, status, at[3] or '', at[4])
end

-- A user has a session, and had none before: nobody is to learn that they were away for a moment.
local function returned(tag, user) redis.call('ZREM', offline_key(tag), user) end

-- A session ended. Answers 2 if it was the last, else 1.
local function left(tag, user, session, now, grace)
  if redis.call('HLEN', key(tag, 'sess', user)) > 0 then
    if not is_idle(session) then reflect(tag, user, now, derived(tag, user)) end
    return 1
  end
  redis.call('HSET', presence_key(tag, user), 'l', int(now))
  redis.call('ZADD', offline_key(tag), int(now + grace), user)
  return 2
end
