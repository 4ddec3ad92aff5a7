-- Says of each group whether anybody but gateways is in it.
-- KEYS: groups; ARGV: how channels of gateways begin
local found = {}
for i, group in ipairs(KEYS) do
  local from = 0
  found[i] = 0
  repeat
    local members = redis.pcall('ZRANGE', group, from, from + 63)
    if members.err then break end -- no group: another's key of that name
    for _, member in ipairs(members) do
      if string.sub(member, 1, #ARGV[1]) ~= ARGV[1] then
        found[i] = 1
        break
      end
    end
    from = from + 64
  until found[i] == 1 or #members < 64
end
return found
