-- persist_read: the records that follow in a partition.
-- KEYS[1] meta   ARGV tag, id after which, most records, most bytes of bodies
-- Receipts count as a body does.
-- Answers '1' if it stopped at a limit, else '0'; then the records as XRANGE does. The one that
-- goes beyond the bytes is the last, so there is always one if there is any.
local READ_AT_ONCE = 16

redis.register_function{
  function_name = 'tidegate_v1_persist_read',
  callback = function(_, a)
    local at, most, room, page = a[2], tonumber(a[3]), tonumber(a[4]), {'0'}
    while true do
      local wanted = math.min(READ_AT_ONCE, most + 1)
      local got = redis.call('XRANGE', persist_key(a[1]), '(' .. at, '+', 'COUNT', wanted)
      for _, entry in ipairs(got) do
        if most <= 0 or room <= 0 then
          page[1] = '1'
          return page
        end
        page[#page + 1] = entry
        local body = field(entry[2], 'd') or field(entry[2], 'received') or ''
        at, most, room = entry[1], most - 1, room - #body
      end
      if #got < wanted then return page end
    end
  end,
  flags = {'no-writes'},
}
