-- reap: forgets sessions that a dead node left in a partition.
-- KEYS[1] meta   ARGV tag, node, incarnation, most sessions
-- Whoever had no other has been away for long: nobody waits for them any more.
-- Sessions of this and of every earlier incarnation go; a later one is alive and stays.
-- Answers two per session removed: user, session.
redis.register_function{
  function_name = 'tidegate_v1_reap',
  callback = function(_, a)
    local tag, node, upto, room, gone = a[1], a[2], tonumber(a[3]), tonumber(a[4]), {}
    local now = now_ms()
    for _, member in ipairs(redis.call('SMEMBERS', key(tag, 'at', node))) do
      if room == 0 then break end
      local incarnation, user, session = string.match(member, '^(%d+) (%S+) (%S+)$')
      if incarnation and tonumber(incarnation) <= upto then
        if close_session(tag, user, session, node, incarnation, now, 0) > 0 then
          gone[#gone + 1] = user
          gone[#gone + 1] = session
          room = room - 1 -- a session that was gone already costs next to nothing
        end
      end
    end
    return gone
  end,
  flags = {'allow-oom'},
}
