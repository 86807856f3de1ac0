-- append: everything of a publish, for many entries in one call.
-- KEYS     meta of each partition touched
-- ARGV[1]  how long an idempotency key lives, ms
-- ARGV[2]  '1' where another server may take over behind this one's back (Sentinel); then nine
--          per entry: tag, topic, kind, idempotency key, digest (32 hex), id, position to remove or
--          '', position that must not be confirmed yet or '', body
-- Answers a text per entry:
--   N <id> <epoch> <offset> <ms> <persist id> <listeners>   new
--   D <id> <epoch> <offset> <ms> <persist id>               duplicate of an earlier call
--   C <id>                                                  the key was used for something else
--   S                                                       confirmed already, nothing written
--   E <message>                                             failed before anything was written
local DIGEST = 32

local function append_one(a, i, now, ttl, epochs)
  local tag, topic = a[i], a[i + 1]
  local idem = key(tag, 'idem', a[i + 3])
  local seen = redis.call('GET', idem)
  if seen then
    if string.sub(seen, 1, DIGEST) ~= a[i + 4] then
      return 'C ' .. string.match(seen, '^%x+ (%S+)')
    end
    -- Also a write, so that a WAIT behind this call covers the first one.
    redis.call('PEXPIRE', idem, ttl)
    return 'D ' .. string.sub(seen, DIGEST + 2)
  end
  local guard = a[i + 7]
  if guard ~= '' then
    local furthest = redis.call('HGET', key(tag, 'user', string.sub(topic, 6)), '*')
    if furthest then
      local ge, gn = pair(guard)
      local fe, fn = pair(furthest)
      if not is_before(fe, fn, ge, gn) then return 'S' end
    end
  end

  local epoch = epochs[tag]
  if not epoch then
    epoch = fence(tag, now)
    epochs[tag] = epoch
  end
  local head, log, stream = key(tag, 'head', topic), key(tag, 'log', topic), persist_key(tag)
  local last = redis.call('HMGET', head, 'e', 'n')
  local born = not last[1]
  local n = 1
  if not born then
    local e = tonumber(last[1])
    n = tonumber(last[2]) + (e == epoch and 1 or EPOCH_JUMP)
    if e > epoch then epoch = e end
  end
  local e_text, n_text, ms = int(epoch), int(n), int(now)
  local kind, id, body = a[i + 2], a[i + 5], a[i + 8]

  local p = redis.call('XADD', stream, '*', 'topic', topic, 'e', e_text, 'n', n_text,
    'id', id, 'k', kind, 't', ms, 'd', body)
  local added = redis.pcall('XADD', log, e_text .. '-' .. n_text,
    'id', id, 'k', kind, 't', ms, 'p', p, 'd', body)
  if type(added) == 'table' then -- the log is not what its head says; leave no trace
    redis.call('XDEL', stream, p)
    return 'E ' .. tostring(added.err)
  end
  if born then
    -- `f` is the first position that is surely here, `b` says the log began with it.
    redis.call('HSET', head, 'e', e_text, 'n', n_text, 't', ms, 'f', e_text .. ':' .. n_text, 'b', '1')
  else
    redis.call('HSET', head, 'e', e_text, 'n', n_text, 't', ms)
  end
  local place = id .. ' ' .. e_text .. ' ' .. n_text .. ' ' .. ms .. ' ' .. p
  redis.call('SET', idem, a[i + 4] .. ' ' .. place, 'PX', ttl)
  if kind == 'preferences' then
    redis.call('HSET', key(tag, 'user', string.sub(topic, 6)), '=', e_text .. ':' .. n_text .. ' ' .. body)
  end
  local gone = a[i + 6]
  if gone ~= '' then redis.call('XDEL', log, (string.gsub(gone, ':', '-'))) end
  local heard = redis.call('SPUBLISH', key(tag, 'ch', topic),
    '1 ' .. e_text .. ' ' .. n_text .. ' ' .. id .. ' ' .. ms .. ' ' .. kind .. '\n' .. body)
  return 'N ' .. place .. ' ' .. heard
end

local function append(_, a)
  local now, ttl, epochs, answers = now_ms(), a[1], {}, {}
  if a[2] == '1' and not is_followed(now) then
    return redis.error_reply('NOREPLICAS nobody has replicated from this server yet')
  end
  for i = 3, #a, 9 do
    local ok, answer = pcall(append_one, a, i, now, ttl, epochs)
    if not ok then
      answer = 'E ' .. tostring(type(answer) == 'table' and answer.err or answer)
    end
    answers[#answers + 1] = answer
  end
  return answers
end

redis.register_function('tidegate_v1_append', append)

-- The same for what frees memory when there is none left: the ends of commands, and what workers
-- have to tell before they can commit and trim.
redis.register_function{
  function_name = 'tidegate_v1_append_reserve',
  callback = append,
  flags = {'allow-oom'},
}
