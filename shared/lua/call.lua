-- call_*: the state of a call, in the partition of its id. It is a hash:
--   s       ringing, active or ended
--   a, b    the caller and the callee
--   as, bs  their sockets in the call; bs only once it is answered
--   ad, bd  the devices of these
--   an, bn  a later socket of the same device, which takes over when it says something, or when
--           that one is gone
--   ao, bo  set while that one is gone and none has taken over
--   al, bl  until when the sockets count as there, ms; their nodes say so again and again
--   r       when it is too late to answer, ms
--   n, t    when it began and was answered, ms
--   o, m    what the caller offered, and what is to be transmitted: until it is answered
--   g       the digest of the request that made it
--   c       what the callee answered: the caller may come back without it
--   p       `1` once the callee was told of the offer, `late` if only a socket was that came later
--   q       set once the caller was told of the answer
--   k...    how many candidates a socket has said, `k<socket>`, and a side, `ka` and `kb`
--   w, e, x how far it had come when it ended, why, and the socket that asked for it or ''
-- Every function answers a list: a verdict, then the call as in FACTS, then what it says besides.
-- Verdicts are those of shared/src/redis/calls.rs. `none`: there is no such call, or it is none of
-- the caller's business; nothing follows.
local CALL_TTL = 3600000 -- ms; after its end so long a second try is answered like the first
-- Most candidates of a socket and of a side: while it rings, and in all.
local MOST_ICE = {ringing = {64, 192}, active = {512, 2048}}
local KEPT_ICE = 64      -- so many of the latest are kept of a side in a call that was answered
local RETELL = 5000      -- ms after which others see to it that an end is told
local FIELDS = {'s', 'a', 'b', 'as', 'bs', 'n', 't', 'w', 'e', 'x', 'an', 'bn', 'p',
  'ad', 'bd', 'ao', 'bo', 'al', 'bl', 'r', 'g', 'q'}
local FACTS = 13         -- so many of these are answered

local function call_key(tag, id) return key(tag, 'call', id) end
local function ice_key(tag, id, side) return key(tag, 'ice', id .. ':' .. side) end

local function find_call(tag, id)
  local values = redis.call('HMGET', call_key(tag, id), unpack(FIELDS))
  if not values[1] then return nil end
  local call = {}
  for i, name in ipairs(FIELDS) do call[name] = values[i] or '' end
  return call
end

-- Writes these fields, and when somebody has to look at the call again.
local function write_call(tag, id, call, now, ...)
  local at, changed = call_key(tag, id), {...}
  for i = 1, #changed, 2 do call[changed[i]] = changed[i + 1] end
  redis.call('HSET', at, ...)
  redis.call('PEXPIRE', at, CALL_TTL)
  local due = now + RETELL
  if call.s ~= 'ended' then
    due = math.min(tonumber(call.al), tonumber(call.s == 'ringing' and call.r or call.bl))
  end
  redis.call('ZADD', tag .. ':calls', int(due), id)
end

local function answer_call(verdict, call, now, ...)
  local answer = {verdict, int(now)}
  for i = 1, FACTS do answer[#answer + 1] = call[FIELDS[i]] end
  for _, more in ipairs({...}) do answer[#answer + 1] = more end
  return answer
end

local function end_call(tag, id, call, now, reason, by)
  write_call(tag, id, call, now, 'w', call.s, 's', 'ended', 'e', reason, 'x', by)
  redis.call('HDEL', call_key(tag, id), 'o', 'm', 'c')
  redis.call('DEL', ice_key(tag, id, 'a'), ice_key(tag, id, 'b'))
  return answer_call('done', call, now)
end

-- Which party a user is, `a` or `b`.
local function side_of(call, user)
  return call.a == user and 'a' or call.b == user and 'b'
end

-- A later socket of the device takes the place of the one in the call.
local function hand_over(tag, id, call, now, side, lease)
  write_call(tag, id, call, now, side .. 's', call[side .. 'n'], side .. 'n', '', side .. 'o', '',
    side .. 'l', int(now + lease))
end

-- Whether a socket is the one in the call. Of a device it is the latest that says something: the one
-- before may be dead long before its node learns of it.
local function is_in_call(tag, id, call, now, side, session, lease)
  if call[side .. 'n'] == session then hand_over(tag, id, call, now, side, lease) end
  return call[side .. 's'] == session
end

-- Registers a function that gets (tag, id, now, call, ARGV behind these) of a call that exists.
local function on_call(name, act, flags)
  redis.register_function{
    function_name = 'tidegate_v1_call_' .. name,
    callback = function(_, a)
      local call = find_call(a[1], a[2])
      if not call then
        if name ~= 'look' then redis.call('ZREM', a[1] .. ':calls', a[2]) end
        return {'none'}
      end
      return act(a[1], a[2], now_ms(), call, a[3], a[4], a[5], a[6], a[7], a[8])
    end,
    flags = flags or {'allow-oom'}, -- calls that were begun go on, and end, when memory is full
  }
end

-- call_offer   KEYS[1] meta
-- ARGV tag, call, caller, callee, socket, device, ms to ring, ms that a socket counts as there,
--      digest, what is offered, what is to be transmitted or ''
-- Verdicts: new; again, if this caller made it by the same request, with 1 once the callee was told or
-- ''; other, if not. Until then the socket that asks again is the caller's from now on: the one before is likely
-- what kept it from being told.
redis.register_function{
  function_name = 'tidegate_v1_call_offer',
  callback = function(_, a)
    local tag, id, now = a[1], a[2], now_ms()
    local call = find_call(tag, id)
    if call then
      local is_same = call.a == a[3] and call.b == a[4] and call.g == a[9]
      if not is_same then return {'other'} end
      local is_placed = call.p == '1'
      if call.s == 'ringing' and not is_placed and call.as ~= a[5] then
        write_call(tag, id, call, now, 'as', a[5], 'ad', a[6], 'an', '', 'ao', '',
          'r', int(now + a[7]), 'al', int(now + a[8]))
      end
      return answer_call('again', call, now, is_placed and '1' or '')
    end
    call = {}
    for _, name in ipairs(FIELDS) do call[name] = '' end
    write_call(tag, id, call, now, 's', 'ringing', 'a', a[3], 'b', a[4], 'as', a[5], 'ad', a[6],
      'r', int(now + a[7]), 'al', int(now + a[8]), 'n', int(now), 'g', a[9], 'o', a[10], 'm', a[11])
    return answer_call('new', call, now)
  end,
}

-- Keeps what a party sent.
local function keep_ice(list, ...)
  redis.call('RPUSH', list, ...)
  redis.call('PEXPIRE', list, CALL_TTL)
end

-- call_placed: the other party was told. KEYS[1] meta   ARGV tag, call, p or q
on_call('placed', function(tag, id, now, call, what)
  redis.call('HSET', call_key(tag, id), what, '1')
  call[what] = '1'
  return answer_call('done', call, now)
end)

-- call_answer
-- KEYS[1] meta   ARGV tag, call, user, socket, device, ms that it counts as there, its answer
-- Verdicts: done, or again for the socket that has answered: then all it sent before, unless the
-- caller was told; elsewhere; ended; own, if it is the user's own call.
on_call('answer', function(tag, id, now, call, user, session, device, lease, sdp)
  local side = side_of(call, user)
  if not side then return {'none'} end
  if side == 'a' then return answer_call('own', call, now) end
  if call.s == 'ended' then return answer_call('ended', call, now) end
  local list, sent = ice_key(tag, id, 'b'), {}
  if call.s == 'active' then
    if not is_in_call(tag, id, call, now, 'b', session, lease) then
      return answer_call('elsewhere', call, now)
    end
    redis.call('HSET', call_key(tag, id), 'c', sdp)
    if call.q == '' then sent = redis.call('LRANGE', list, 0, -1) end
    return answer_call('again', call, now, unpack(sent))
  end
  write_call(tag, id, call, now, 's', 'active', 'bs', session, 'bd', device, 't', int(now),
    'bl', int(now + lease))
  redis.call('HSET', call_key(tag, id), 'c', sdp)
  redis.call('HDEL', call_key(tag, id), 'o', 'm')
  -- Of those of all devices that rang, only what this one sent is of use from now on.
  for _, kept in ipairs(redis.call('LRANGE', list, 0, -1)) do
    if string.sub(kept, 1, #session) == session then sent[#sent + 1] = string.sub(kept, #session + 2) end
  end
  redis.call('DEL', list)
  if #sent > 0 then keep_ice(list, unpack(sent)) end
  return answer_call('done', call, now, unpack(sent))
end)

-- Whether a socket may name one more candidate; then that is counted.
local function count_ice(tag, id, call, side, session)
  local at, most = call_key(tag, id), MOST_ICE[call.s]
  local said = redis.call('HMGET', at, 'k' .. session, 'k' .. side)
  for i = 1, 2 do
    if tonumber(said[i] or 0) >= most[i] then return false end
  end
  redis.call('HINCRBY', at, 'k' .. session, 1)
  redis.call('HINCRBY', at, 'k' .. side, 1)
  return true
end

-- call_ice   KEYS[1] meta   ARGV tag, call, user, socket, candidate,
--      ms that the socket counts as there if it takes over
-- Verdicts: done, if the other party is to be told: while it rings with the number of those of the
-- caller up to this one; kept, until it is answered; full; elsewhere; ended.
on_call('ice', function(tag, id, now, call, user, session, candidate, lease)
  local side = side_of(call, user)
  if not side then return {'none'} end
  if call.s == 'ended' then return answer_call('ended', call, now) end
  local rings = side == 'b' and call.s == 'ringing'
  if not rings and not is_in_call(tag, id, call, now, side, session, lease) then
    return answer_call('elsewhere', call, now)
  end
  if not count_ice(tag, id, call, side, session) then return answer_call('full', call, now) end
  local list = ice_key(tag, id, side)
  keep_ice(list, rings and session .. ' ' .. candidate or candidate)
  if rings then return answer_call('kept', call, now) end
  if call.s == 'ringing' then return answer_call('done', call, now, redis.call('LLEN', list)) end
  -- For a device that comes back.
  redis.call('LTRIM', list, -KEPT_ICE, -1)
  return answer_call('done', call, now)
end)
