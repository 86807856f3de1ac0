-- What appending to a conversation does besides: it looks whether the author decided by the
-- present version, keeps ids rising, and says who makes the copies for inboxes. Topics are
-- `conversation:<id>`.
--
-- A version counts in the epoch in which it was told: after a failover a later one may be lost, so
-- then nobody may write until Postgres was asked. It is forgotten when it is not used.
local VERSION_TTL = 48 * 3600000 -- ms
-- Who copies has said so for so long. Each copier begins behind what is copied and goes forward,
-- and a copy has a key of its own: if two overlap, they do the same twice, in the same order.
local COPIER_LEASE = 5000        -- ms

local function conversation_of(topic) return string.sub(topic, 14) end
local function version_key(tag, topic) return key(tag, 'version', conversation_of(topic)) end

-- The version, and whether it is from this epoch.
local function version_of(tag, topic, epoch)
  local version, at = string.match(redis.call('GET', version_key(tag, topic)) or '', '^(%d+) (%d+)$')
  return tonumber(version), at == int(epoch)
end

local function is_present(tag, topic, version, epoch)
  return redis.call('GETEX', version_key(tag, topic), 'PX', VERSION_TTL) == version .. ' ' .. int(epoch)
end

local function set_version(tag, topic, version, epoch)
  redis.call('SET', version_key(tag, topic), int(version) .. ' ' .. int(epoch), 'PX', VERSION_TTL)
end

-- `=<version>[ <copier>]` for who decided by it, `+<version>[ <copier>]` for a change to it. Answers
-- whether it counts, the version, and the copier or ''.
local function admit(tag, topic, author, epoch)
  local sign, version, copier = string.match(author, '^([=+])(%d+) ?(%S*)$')
  if sign == '=' then return is_present(tag, topic, version, epoch), version, copier end
  local known = version_of(tag, topic, epoch)
  if not known or known < tonumber(version) then set_version(tag, topic, tonumber(version), epoch) end
  return true, version, copier
end

-- The id, or the next after the last one of the log, if that is not smaller: ids are UUIDs, whose
-- texts sort as they do, and the last 62 bits of one are a number.
local function rising(id, last)
  if not last or last < id then return id end
  local low = tonumber(string.sub(last, 25), 16) + 1
  if low < 2 ^ 48 then return string.sub(last, 1, 24) .. string.format('%012x', low) end
  return string.sub(last, 1, 19) .. string.format('%04x', tonumber(string.sub(last, 20, 23), 16) + 1) .. '-000000000000'
end

local function is_copying(who, now)
  local left = (tonumber(string.match(who, ' (%d+)$')) or 0) - now
  return left > 0 and left <= COPIER_LEASE -- more is from before the clock was set back
end

local IS_MESSAGE = {['message.new'] = true, ['message.edited'] = true, ['message.deleted'] = true}

-- Remembers the entry `e`:`n` as the last, and as the last message that is not copied if it is one;
-- answers who is to copy it.
local function note_entry(tag, topic, kind, id, e, n, copier, who, now)
  local head = key(tag, 'head', topic)
  if copier == '' then
    if IS_MESSAGE[kind] then
      redis.call('HSET', head, 'i', id, 'u', int(e) .. ':' .. int(n))
    else
      redis.call('HSET', head, 'i', id)
    end
    return ''
  end
  if who then
    redis.call('HSET', head, 'i', id)
    return is_copying(who, now) and ' other' or ' abandoned'
  end
  redis.call('HSET', head, 'i', id, 'w', copier .. ' ' .. int(now + COPIER_LEASE), 'c', int(e) .. ':' .. int(n - 1))
  redis.call('ZADD', tag .. ':fanout', int(now), conversation_of(topic))
  return ' mine'
end
