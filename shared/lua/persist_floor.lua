-- persist_floor: what Postgres has of a partition, told by the worker that begins to serve it.
-- KEYS[1] meta   ARGV tag, id ('0-0': Postgres has nothing)
-- With nothing in Postgres the history in Redis is complete, which readers of young logs want to
-- know. If Redis has lost its data, ids could be given out that Postgres counts as done: they are
-- raised, and records that got such ids already are written again behind them (Postgres ignores
-- what it knows). Answers how many were written again.
redis.register_function{
  function_name = 'tidegate_v1_persist_floor',
  callback = function(_, a)
    local tag, ms, seq = a[1], pair(a[2])
    fence(tag, now_ms())
    local meta = tag .. ':meta'
    if ms == 0 and seq == 0 and redis.call('HEXISTS', meta, 'complete') == 0 then
      redis.call('HSET', meta, 'complete', '1')
    end
    local lms, lseq = persist_last(tag)
    if not is_before(lms, lseq, ms, seq) then return 0 end
    redis.call('HSET', meta, 'complete', '0')
    local stream = persist_key(tag)
    local low = redis.call('XRANGE', stream, '-', '+')
    raise_persist(tag, ms, seq)
    for _, entry in ipairs(low) do
      redis.call('XADD', stream, '*', unpack(entry[2]))
      redis.call('XDEL', stream, entry[1])
    end
    return #low
  end,
  flags = {'allow-oom'},
}
