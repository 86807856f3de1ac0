-- call_keep, call_lost, call_resume, call_look: the sockets in a call. See call.lua.

-- call_keep: a socket is there.
-- KEYS[1] meta   ARGV tag, call, user, socket, ms that it counts as there
-- Verdicts: done; wait, if it is to take over; other, if it is not in the call; ended.
on_call('keep', function(tag, id, now, call, user, session, lease)
  local side = side_of(call, user)
  if not side then return {'none'} end
  if call.s == 'ended' then return answer_call('ended', call, now) end
  if call[side .. 's'] == session then
    write_call(tag, id, call, now, side .. 'l', int(now + lease))
    return answer_call('done', call, now)
  end
  return answer_call(call[side .. 'n'] == session and 'wait' or 'other', call, now)
end)

-- call_lost: a socket is gone. If none is to take over, one has some time to.
-- KEYS[1] meta   ARGV tag, call, user, socket, ms of that time, ms that one which takes over counts
--      as there
-- Verdicts: done; wait, if that time begins; other, if it was not in the call; ended.
on_call('lost', function(tag, id, now, call, user, session, grace, lease)
  local side = side_of(call, user)
  if not side then return {'none'} end
  if call.s == 'ended' then return answer_call('ended', call, now) end
  if call[side .. 'n'] == session then
    write_call(tag, id, call, now, side .. 'n', '')
    return answer_call('other', call, now)
  end
  if call[side .. 's'] ~= session then return answer_call('other', call, now) end
  if call[side .. 'n'] ~= '' then
    hand_over(tag, id, call, now, side, lease)
    return answer_call('done', call, now)
  end
  write_call(tag, id, call, now, side .. 'o', '1', side .. 'l', int(now + grace))
  return answer_call('wait', call, now)
end)

-- call_resume: a socket has come of a user who is in a call.
-- KEYS[1] meta   ARGV tag, call, user, socket, device, ms that it counts as there
-- Verdicts: ring, if it rings: then what is offered, what is to be transmitted, candidates; done, if
-- it took over; wait, if it may have to: then, once it is answered, the other party's candidates, for
-- the caller behind the answer; other, if it is not concerned; ended.
on_call('resume', function(tag, id, now, call, user, session, device, lease)
  local side = side_of(call, user)
  if not side then return {'none'} end
  if call.s == 'ended' then return answer_call('ended', call, now) end
  if side == 'b' and call.s == 'ringing' then
    local offered = redis.call('HMGET', call_key(tag, id), 'o', 'm')
    if call.p == '' then
      call.p = 'late'
      redis.call('HSET', call_key(tag, id), 'p', call.p)
    end
    return answer_call('ring', call, now, offered[1] or '', offered[2] or '',
      unpack(redis.call('LRANGE', ice_key(tag, id, 'a'), 0, -1)))
  end
  if call[side .. 'd'] ~= device or call[side .. 's'] == session then
    return answer_call('other', call, now)
  end
  local missed = {}
  if call.s == 'active' then
    missed = redis.call('LRANGE', ice_key(tag, id, side == 'a' and 'b' or 'a'), 0, -1)
    if side == 'a' then table.insert(missed, 1, redis.call('HGET', call_key(tag, id), 'c') or '') end
  end
  call[side .. 'n'] = session
  if call[side .. 'o'] == '' and now < tonumber(call[side .. 'l']) then
    write_call(tag, id, call, now, side .. 'n', session)
    return answer_call('wait', call, now, unpack(missed))
  end
  hand_over(tag, id, call, now, side, lease)
  return answer_call('done', call, now, unpack(missed))
end)

-- call_look   KEYS[1] meta   ARGV tag, call
-- Verdict: done.
on_call('look', function(_, _, now, call) return answer_call('done', call, now) end, {'no-writes'})
