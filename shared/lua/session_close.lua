-- session_close: forgets a session, if it still belongs to this incarnation of the node.
-- KEYS[1] meta   ARGV tag, user, session, node, incarnation, ms for which the user is not taken for gone
-- Answers 0 if it was not there, 2 if it was the user's last, else 1.
local function close_session(tag, user, session, node, incarnation, now, grace)
  redis.call('SREM', key(tag, 'at', node), incarnation .. ' ' .. user .. ' ' .. session)
  local sessions = key(tag, 'sess', user)
  local owner = redis.call('HGET', sessions, session)
  local prefix = node .. ' ' .. incarnation .. ' '
  if not owner or string.sub(owner, 1, #prefix) ~= prefix then return 0 end
  redis.call('HDEL', sessions, session)
  return left(tag, user, owner, now, grace)
end

redis.register_function{
  function_name = 'tidegate_v1_session_close',
  callback = function(_, a) return close_session(a[1], a[2], a[3], a[4], a[5], now_ms(), tonumber(a[6])) end,
  flags = {'allow-oom'},
}
