-- append: everything of a publish, for many entries in one call.
-- KEYS     meta of each partition touched
-- ARGV[1]  how long an idempotency key lives, ms
-- ARGV[2]  '1' where another server may take over behind this one's back (Sentinel); then 11
--          per entry: tag, topic, kind, idempotency key, digest (32 hex), id, position to remove or
--          '', position that must not be confirmed yet or '', author in a conversation or '' (see
--          conversation.lua), what Postgres is told or '' for the body, body
-- Answers a text per entry:
--   N <id> <epoch> <offset> <ms> <persist id> <listeners>   new; then, if it is to be copied,
--                                                           ` mine`, ` other` or ` abandoned`
--   D <id> <epoch> <offset> <ms> <persist id>               duplicate of an earlier call
--   C <id>                                                  the key was used for something else
--   S                                                       confirmed already, nothing written
--   O                                                       the author's version is not the present
--                                                           one, nothing written
--   E <message>                                             failed before anything was written
local DIGEST = 32

-- Whether any device has confirmed a user's commands up to a position.
local function is_delivered(tag, topic, position)
  local ge, gn = pair(position)
  local furthest = redis.call('HMGET', key(tag, 'user', string.sub(topic, 6)), '*', 'commands:*')
  local fe, fn = further(furthest[1], furthest[2])
  return (furthest[1] or furthest[2]) and not is_before(fe, fn, ge, gn)
end

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
  if a[i + 7] ~= '' and is_delivered(tag, topic, a[i + 7]) then return 'S' end

  local epoch = epochs[tag]
  if not epoch then
    epoch = fence(tag, now)
    epochs[tag] = epoch
  end
  local author, counts, version, copier = a[i + 8], true, nil, ''
  if author ~= '' then
    counts, version, copier = admit(tag, topic, author, epoch)
    if not counts then return 'O' end
  end
  local head, log, stream = key(tag, 'head', topic), key(tag, 'log', topic), persist_key(tag)
  local last
  if author == '' then
    last = redis.call('HMGET', head, 'e', 'n')
  else
    last = redis.call('HMGET', head, 'e', 'n', 'i', 'w')
  end
  local born = not last[1]
  local n = 1
  if not born then
    local e = tonumber(last[1])
    n = tonumber(last[2]) + (e == epoch and 1 or EPOCH_JUMP)
    if e > epoch then epoch = e end
  end
  local e_text, n_text, ms = int(epoch), int(n), int(now)
  local kind, id, told, body = a[i + 2], a[i + 5], a[i + 9], a[i + 10]
  if author ~= '' then id = rising(id, last[3]) end
  if told == '' then told = body end

  local p = redis.call('XADD', stream, '*', 'topic', topic, 'e', e_text, 'n', n_text,
    'id', id, 'k', kind, 't', ms, 'd', told)
  local added
  if copier == '' then
    added = redis.pcall('XADD', log, e_text .. '-' .. n_text,
      'id', id, 'k', kind, 't', ms, 'p', p, 'd', body)
  else
    added = redis.pcall('XADD', log, e_text .. '-' .. n_text,
      'id', id, 'k', kind, 't', ms, 'p', p, 'v', version, 'd', body)
  end
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
  local copying = ''
  if author ~= '' then copying = note_entry(tag, topic, kind, id, epoch, n, copier, last[4], now) end
  local place = id .. ' ' .. e_text .. ' ' .. n_text .. ' ' .. ms .. ' ' .. p
  redis.call('SET', idem, a[i + 4] .. ' ' .. place, 'PX', ttl)
  if kind == 'preferences' then
    redis.call('HSET', key(tag, 'user', string.sub(topic, 6)), '=', e_text .. ':' .. n_text .. ' ' .. body)
  end
  local gone = a[i + 6]
  if gone ~= '' then redis.call('XDEL', log, (string.gsub(gone, ':', '-'))) end
  local heard = redis.call('SPUBLISH', key(tag, 'ch', topic),
    '1 ' .. e_text .. ' ' .. n_text .. ' ' .. id .. ' ' .. ms .. ' ' .. kind .. '\n' .. body)
  return 'N ' .. place .. ' ' .. heard .. copying
end

local function append(_, a)
  local now, ttl, epochs, answers = now_ms(), a[1], {}, {}
  if a[2] == '1' and not is_followed(now) then
    return redis.error_reply('NOREPLICAS nobody has replicated from this server yet')
  end
  for i = 3, #a, 11 do
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
