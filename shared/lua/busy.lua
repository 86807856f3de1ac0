-- claim, claimed, hold, offered, tell: what a call has in the partition of each of its users.
-- The calls of a user are one at a time: `{pN}:busy:<user>` names it, and the other party.

-- How many of a user's sessions can be told of a call.
local function hearing(tag, user)
  local count = 0
  for _, session in ipairs(redis.call('HVALS', key(tag, 'sess', user))) do
    if not is_deaf(session) then count = count + 1 end
  end
  return count
end

-- claim   KEYS[1] meta
-- ARGV tag, user, call, other party, ms for which it counts, call it may be taken from or ''
-- Answers {verdict, call that the user is in, sessions that hear calls}. Verdicts: done; glare, if that
-- is another call of the same two; busy.
redis.register_function{
  function_name = 'tidegate_v1_claim',
  callback = function(_, a)
    local busy, verdict = key(a[1], 'busy', a[2]), 'done'
    local call, other = string.match(redis.call('GET', busy) or '', '^(%S+) (%S+)$')
    if call and call ~= a[3] and call ~= a[6] then
      verdict = other == a[4] and 'glare' or 'busy'
    else
      redis.call('SET', busy, a[3] .. ' ' .. a[4], 'PX', a[5])
      call = a[3]
    end
    return {verdict, call, hearing(a[1], a[2])}
  end,
}

-- claimed   KEYS[1] meta   ARGV tag, user
-- Answers {call that the user is in or '', sessions that hear calls}.
redis.register_function{
  function_name = 'tidegate_v1_claimed',
  callback = function(_, a)
    local call = string.match(redis.call('GET', key(a[1], 'busy', a[2])) or '', '^(%S+) ')
    return {call or '', hearing(a[1], a[2])}
  end,
  flags = {'no-writes'},
}

-- hold: a claim counts for longer, or no more.
-- KEYS[1] meta   ARGV tag, user, call, ms for which it counts: 0 not at all
-- Answers 1 if the user was in that call.
redis.register_function{
  function_name = 'tidegate_v1_hold',
  callback = function(_, a)
    local busy = key(a[1], 'busy', a[2])
    if string.match(redis.call('GET', busy) or '', '^(%S+) ') ~= a[3] then return 0 end
    return redis.call('PEXPIRE', busy, a[4])
  end,
  flags = {'allow-oom'},
}

-- offered: which call a request makes; the first try says.
-- KEYS[1] meta   ARGV tag, user and request, digest, call, ms for which that is remembered
-- Answers the call, or '' if another request had this name.
redis.register_function{
  function_name = 'tidegate_v1_offered',
  callback = function(_, a)
    local at = key(a[1], 'offered', a[2])
    redis.call('SET', at, a[3] .. ' ' .. a[4], 'PX', a[5], 'NX')
    local digest, call = string.match(redis.call('GET', at), '^(%S+) (%S+)$')
    return digest == a[3] and call or ''
  end,
}

-- tell: events of calls, for a user.   KEYS[1] meta   ARGV tag, user, message, ...
-- Answers how many nodes heard the first.
redis.register_function{
  function_name = 'tidegate_v1_tell',
  callback = function(_, a)
    local channel, heard = key(a[1], 'ch', 'user:' .. a[2]), 0
    for i = 3, #a do
      local count = redis.call('SPUBLISH', channel, a[i])
      if i == 3 then heard = count end
    end
    return heard
  end,
  flags = {'allow-oom'},
}
