-- find: an entry by its id, among the newest of a log.
-- KEYS[1] meta   ARGV tag, topic, id, how many entries to look at
-- Answers {<e>-<n>, id, kind, ms, body}, or an empty list.
-- An id of version 7 holds the time it was minted, before its entry was taken: behind entries that
-- are older by more than clocks differ, nothing is looked for.
local CLOCKS_DIFFER_MS = 120000

local function oldest_of(id)
  local ms = string.sub(id, 15, 15) == '7' and tonumber(string.sub(id, 1, 8) .. string.sub(id, 10, 13), 16)
  return ms and ms - CLOCKS_DIFFER_MS or 0
end

redis.register_function{
  function_name = 'tidegate_v1_find',
  callback = function(_, a)
    local left, at, oldest = tonumber(a[4]), '+', oldest_of(a[3])
    local step = 10
    while left > 0 do
      local wanted = math.min(left, step)
      local got = redis.call('XREVRANGE', key(a[1], 'log', a[2]), at, '-', 'COUNT', wanted)
      for _, entry in ipairs(got) do
        local f = entry[2]
        if field(f, 'id') == a[3] then
          return {entry[1], a[3], field(f, 'k') or '', field(f, 't') or '', field(f, 'd') or ''}
        end
        if (tonumber(field(f, 't')) or oldest) < oldest then return {} end
        at = '(' .. entry[1]
      end
      if #got < wanted then break end
      left, step = left - #got, 100
    end
    return {}
  end,
  flags = {'no-writes'},
}
