-- call_hangup, call_close, call_lapse, call_forget, call_settled, calls_due: how calls end. See call.lua.

-- call_hangup   KEYS[1] meta   ARGV tag, call, user, socket, device, what a callee says who refuses
-- Verdicts: done; ended, if it was over; elsewhere, if the socket is not in the call.
on_call('hangup', function(tag, id, now, call, user, session, device, refusal)
  local side = side_of(call, user)
  if not side then return {'none'} end
  if call.s == 'ended' then return answer_call('ended', call, now) end
  local refuses = side == 'b' and call.s == 'ringing'
  -- A party's other sockets know nothing of the call, unless it is that device come back.
  local is_in = call[side .. 's'] == session or call[side .. 'd'] == device
  if not refuses and not is_in then return answer_call('elsewhere', call, now) end
  return end_call(tag, id, call, now, refuses and refusal or 'hangup', session)
end)

-- call_close: ends it for a reason of our own.
-- KEYS[1] meta   ARGV tag, call, reason, the state it has to be in or ''
-- Verdicts: done; ended, if it was over; other, if it is in another state.
on_call('close', function(tag, id, now, call, reason, state)
  if call.s == 'ended' then return answer_call('ended', call, now) end
  if state ~= '' and call.s ~= state then return answer_call('other', call, now) end
  return end_call(tag, id, call, now, reason, '')
end)

-- call_lapse: looks whether it is too late.
-- KEYS[1] meta   ARGV tag, call, ms that a socket counts as there
-- Verdicts: done, if it ended now; ended, if it was over; wait, if it goes on.
on_call('lapse', function(tag, id, now, call, lease)
  if call.s == 'ended' then return answer_call('ended', call, now) end
  if call.s == 'ringing' and now >= tonumber(call.r) then
    return end_call(tag, id, call, now, 'timeout', '')
  end
  for _, side in ipairs({'a', 'b'}) do
    local until_ms = tonumber(call[side .. 'l'])
    if until_ms and now >= until_ms then
      if call[side .. 'n'] == '' then return end_call(tag, id, call, now, 'disconnected', '') end
      hand_over(tag, id, call, now, side, lease)
    end
  end
  write_call(tag, id, call, now, 's', call.s)
  return answer_call('wait', call, now)
end)

-- call_forget: it was never begun. KEYS[1] meta   ARGV tag, call
on_call('forget', function(tag, id, now, call)
  if call.s ~= 'ringing' or call.p ~= '' then return answer_call('other', call, now) end
  redis.call('DEL', call_key(tag, id))
  redis.call('ZREM', tag .. ':calls', id)
  return answer_call('done', call, now)
end)

-- call_settled: everybody was told of the end. KEYS[1] meta   ARGV tag, call
on_call('settled', function(tag, id, now, call)
  if call.s == 'ended' then redis.call('ZREM', tag .. ':calls', id) end
  return answer_call('done', call, now)
end)

-- calls_due   KEYS[1] meta   ARGV tag, most
-- Answers calls that somebody has to look at.
redis.register_function{
  function_name = 'tidegate_v1_calls_due',
  callback = function(_, a)
    return redis.call('ZRANGEBYSCORE', a[1] .. ':calls', '-inf', int(now_ms()), 'LIMIT', 0, a[2])
  end,
  flags = {'no-writes'},
}
