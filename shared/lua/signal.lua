-- signal: publishes what is in no log.
-- KEYS[1] meta   ARGV tag, conversation, version by which the sender was judged, message
-- Answers 1 if that is the present version, else nothing was published.
redis.register_function{
  function_name = 'tidegate_v1_signal',
  callback = function(_, a)
    local tag, topic = a[1], 'conversation:' .. a[2]
    local epoch = present_epoch(tag, now_ms())
    if not epoch or not is_present(tag, topic, a[3], epoch) then return 0 end
    redis.call('SPUBLISH', key(tag, 'ch', topic), a[4])
    return 1
  end,
  flags = {'allow-oom'}, -- signals go on when memory is full
}
