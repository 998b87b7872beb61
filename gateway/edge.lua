-- The edge's part in every call. Envoy runs it first on requests and last on responses.
--
-- Requests: a body is compared with what its method takes, because the transcoder drops unknown keys
-- and does not say where a list or an object stands that must not; the names of its top-level keys go
-- into a header, because the transcoder reads null as absent (gateway/requests.py reads the header).
-- A stream of bytes, as of a file, goes through as it comes.
-- Responses: every error gets OpenAI's body, whoever refused the request; headers that the service names
-- as the edge's (`x-edge-…`) become those of the answer.
--
-- gateway/descriptor.py writes what it takes from the descriptor before this text. ROUTES leads from a
-- POST's path, segment by segment (`*` is any), to the name of its body, or to `raw`; SHAPES says by that name what
-- each key may be:
--   scalar = its type, or object = the name of its own shape, map = texts by key, free = any object,
--   any = any value; and list, if it is one of these.
-- MAPS are the keys whose value is a map, wherever they stand; POLLED is the pattern of the path that
-- clients read until a run has ended.

-- What begins so is the edge's own, and the service believes it.
local EDGE = "^x%-edge%-"
local BODY_KEYS = "x-edge-body-keys"
-- How much of a key an error shows.
local MAX_KEY_BYTES = 64
-- The transcoder gives up at as many levels.
local MAX_DEPTH = 100

-- How long the official clients' polling helpers are to wait before they look at a run again: a look
-- is one row, and without this header Python waits a second, and JavaScript up to five.
local POLL_AFTER_MS = "250"

-- The parameter by which Azure's clients say which version of Azure's API they speak.
local API_VERSION = "api-version"

local UNREADABLE = "We could not parse the body of your request: it must be a JSON object."

local ESCAPED = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- Reading JSON -------------------------------------------------------------------------------
-- To the letter: the transcoder also takes single quotes, bare keys and a comma too many.

local QUOTE, BACKSLASH, COMMA, COLON, BRACKET, BRACE = ('"\\,:[{'):byte(1, -1)
local LITERALS = { ["true"] = true, ["false"] = true, ["null"] = true }
local CLOSING = { [BRACKET] = ("]"):byte(), [BRACE] = ("}"):byte() }

local function skip_space(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

-- Returns the position behind the string that begins at `at`, or nil.
local function string_end(text, at)
  if text:byte(at) ~= QUOTE then return nil end
  at = at + 1
  while true do
    at = text:find('[%z\1-\31"\\]', at)
    local char = at and text:byte(at)
    if char == QUOTE then return at + 1 end
    if char ~= BACKSLASH or not text:find('^["\\/bfnrtu]', at + 1) then return nil end
    at = at + 2
  end
end

local function is_number(word)
  local stop = word:match("^%-?0()") or word:match("^%-?[1-9]%d*()")
  if not stop then return false end
  stop = word:match("^%.%d+()", stop) or stop
  stop = word:match("^[eE][+-]?%d+()", stop) or stop
  return stop > #word
end

local function utf8(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return string.char(
      0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end
  return string.char(
    0xF0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64,
    0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

-- Returns what is between a string's quotes without its escapes.
local function unescape(raw)
  if not raw:find("\\", 1, true) then return raw end
  raw = raw:gsub("\\u[dD]([89abAB]%x%x)\\u[dD]([c-fC-F]%x%x)", function(high, low)
    local top = tonumber(high, 16) % 1024
    return utf8(0x10000 + top * 1024 + tonumber(low, 16) % 1024)
  end)
  return (raw:gsub("\\(.)(%x?%x?%x?%x?)", function(kind, digits)
    if kind == "u" and #digits == 4 then return utf8(tonumber(digits, 16)) end
    return (ESCAPED[kind] or kind) .. digits
  end))
end

-- Writing errors -----------------------------------------------------------------------------

local STRINGS = "an object with string values"
local EXPECTED = {
  TYPE_STRING = "a string", TYPE_BOOL = "a boolean", TYPE_INT32 = "an integer",
  TYPE_INT64 = "an integer", TYPE_DOUBLE = "a decimal",
}
local INTEGERS = {
  TYPE_INT32 = { 2 ^ 31, "-2147483648", "2147483647" },
  TYPE_INT64 = { 2 ^ 63, "-9223372036854775808", "9223372036854775807" },
}

-- Returns the escape of a character of two to four bytes.
local function escape(bytes)
  local code = bytes:byte() % 2 ^ (7 - #bytes)
  for place = 2, #bytes do code = code * 64 + bytes:byte(place) % 64 end
  local least = #bytes == 2 and 0x80 or #bytes == 3 and 0x800 or 0x10000
  if code < least or code > 0x10FFFF or code >= 0xD800 and code < 0xE000 then return "?" end
  if code < 0x10000 then return string.format("\\u%04x", code) end
  code = code - 0x10000
  return string.format("\\u%04x\\u%04x", 0xD800 + math.floor(code / 1024), 0xDC00 + code % 1024)
end

-- Returns a text as a JSON string of ASCII; what is not UTF-8 becomes question marks.
local function quote(text)
  if text == nil then return "null" end
  text = text:sub(1, 1000):gsub('[%c"\\]', function(char)
    return string.format("\\u%04x", char:byte())
  end)
  text = text:gsub("[\194-\223][\128-\191]", escape)
  text = text:gsub("[\224-\239][\128-\191][\128-\191]", escape)
  text = text:gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", escape)
  return '"' .. text:gsub("[\128-\255]", "?") .. '"'
end

local function error_body(message, kind, param, code)
  return string.format('{"error":{"message":%s,"type":%s,"param":%s,"code":%s}}',
    quote(message), quote(kind), quote(param), quote(code))
end

local function invalid(message, param, code)
  return error_body(message, "invalid_request_error", param, code)
end

local function unknown_parameter(name)
  return invalid("Unknown parameter: '" .. name .. "'.", name, "unknown_parameter")
end

local function duplicate_parameter(name)
  return invalid("Duplicate parameter: '" .. name .. "'.", name, "duplicate_parameter")
end

local function wrong_type(name, expected, got)
  local message = "Invalid type for '" .. name .. "': expected " .. expected
  if got then message = message .. ", but got " .. got .. " instead" end
  return invalid(message .. ".", name, "invalid_type")
end

-- Returns the type of a value that is neither an object nor an array.
local function type_of(value)
  if value:match("^true$") or value:match("^false$") then return "a boolean" end
  if value:match("^%-?%d+$") then return "an integer" end
  if value:match("^%-?%d") then return "a decimal" end
  if value == "null" then return "null" end
  return "a string"
end

-- Returns the body for a whole number that its type of integer does not hold, or nil for another
-- value. The field's own limits, which the service knows, are narrower.
local function out_of_range(name, value, wanted)
  local text = value:match('^"?(%-?%d[%d.eE+]*)"?$')
  local number = tonumber(text or "")
  if not number or math.floor(number) ~= number then return nil end
  local bound, least, greatest = unpack(INTEGERS[wanted])
  if number >= bound then
    return invalid(string.format("Invalid '%s': integer above maximum value. Expected a value <= "
      .. "%s, but got %s instead.", name, greatest, text), name, "integer_above_max_value")
  elseif number <= -bound then
    return invalid(string.format("Invalid '%s': integer below minimum value. Expected a value >= "
      .. "%s, but got %s instead.", name, least, text), name, "integer_below_min_value")
  end
end

-- The texts are those of one version of Envoy: tests/unit/gateway/test_envoy_texts.py has them, and fails
-- where another version is installed.

-- Returns the body for a value that did not fit its field, as `limit: invalid value "abc" for type
-- TYPE_INT32`, or nil if the text is another.
local function unfit(text)
  local name, value, wanted = text:match("^([^:]+): invalid value (.*) for type (%S+)$")
  if not name then return nil end
  local entry = name:match("^(.*)%[%d+%]%.value$")
  if entry and MAPS[entry:match("[%w_]+$")] then return wrong_type(entry, STRINGS) end
  local expected, got = EXPECTED[wanted], type_of(value)
  local body = INTEGERS[wanted] and out_of_range(name, value, wanted)
  if body then return body end
  return wrong_type(name, expected or "an object", got)
end

-- Returns the body for a request that Envoy's transcoder refused.
local function bad_request(text)
  local body = unfit(text)
  if body then return body end
  local name = text:match('^Could not find field "([^"]*)"')
  if name then return unknown_parameter(name) end
  -- Keys are repeated only inside JSON that has no schema: its path is one of protobuf's own names.
  name = text:match("Cannot set '([^']*)'") or text:match("Repeated map key: '(.*)' is already set")
  if name then return duplicate_parameter(name) end
  return invalid(UNREADABLE)
end

-- Returns the body for an error of Envoy's own, by its status and text.
local function translate(status, text, request)
  if status == 408 then return invalid("The request did not arrive in time.") end
  -- Without a method, Envoy found no request in what it was sent.
  if not request.method then
    return invalid("Bad HTTP request. " .. (text ~= "" and text or "Bad Request"))
  end
  if status == 400 then return bad_request(text) end
  if status == 404 then
    return invalid(string.format("Invalid URL (%s %s)", request.method, request.shown))
  end
  if status == 413 then return invalid("The body of the request is too large.") end
  if status == 429 then return error_body("Too many requests.", "rate_limit_exceeded") end
  if status < 500 then return invalid(text) end
  local message = status == 503 and "The server is not available right now. Try again later."
    or "The server had an error."
  return error_body(message, "server_error")
end

-- Comparing a body with its shape -------------------------------------------------------------
-- A walk knows its `path` to the value that it is at (keys, and places in lists), the `keys` of the
-- body so far, as the header has them, and the `fault`: the error of the first value that does not fit.

-- What the values of a map are.
local ENTRY = { entry = true }

local function name_of(path)
  local text = ""
  for place, step in ipairs(path) do
    if type(step) == "number" then
      text = text .. "[" .. step .. "]"
    else
      text = text .. (place > 1 and "." or "") .. step:sub(1, MAX_KEY_BYTES)
    end
  end
  return text
end

local function misfit(walk, shape, got)
  local path = walk.path
  if shape.entry then
    path = { unpack(path, 1, #path - 1) }
    return wrong_type(name_of(path), STRINGS)
  end
  local listed = type(path[#path]) == "number"
  local expected = shape.list and not listed and "an array" or EXPECTED[shape.scalar] or "an object"
  return wrong_type(name_of(path), expected, got)
end

-- Returns the shape of what is inside the value at `at`, or nil if there is nothing to compare. A
-- list's elements have its shape: as the transcoder reads them, a list in a list is its elements.
local function shape_inside(walk, shape, text, at)
  local char, got = text:byte(at), nil
  -- Only that its keys are given once.
  if shape.any then return shape end
  if char == BRACKET then
    if shape.list then return shape end
    got = "an array"
  elseif char == BRACE then
    if shape.object or shape.map then return shape end
    if shape.free then return nil end
    got = "an object"
  else
    -- Of a text, the transcoder would count the place in its list wrongly.
    local fits = shape.entry or shape.scalar and (shape.scalar ~= "TYPE_STRING" or char == QUOTE)
    -- Null is nothing, but among texts or numbers: of ids, say, the transcoder would drop it.
    local listed = shape.scalar and type(walk.path[#walk.path]) == "number"
    if text:find("^null", at) then fits = not listed end
    if fits then return nil end
    got = type_of(text:match("^[%w.+-]*", at))
  end
  walk.fault = walk.fault or misfit(walk, shape, got)
end

local function hex(text)
  return (text:gsub(".", function(char) return string.format("%02x", char:byte()) end))
end

-- Returns the shape of the value at `at`, which is that of the path's last key, or nil if it has none.
local function shape_of_key(walk, shape, seen, text, at)
  local path = walk.path
  local key, null = path[#path], text:find("^null", at)
  local found = shape.map and ENTRY or shape.any and shape or SHAPES[shape.object][key]
  if not found and not null then
    walk.fault = walk.fault or unknown_parameter(name_of(path))
  elseif seen[key] then
    walk.fault = walk.fault or duplicate_parameter(name_of(path))
  elseif found and #path == 1 then
    walk.keys[#walk.keys + 1] = (null and "n" or "v") .. hex(key)
  end
  seen[key] = true
  return found
end

local nested_end

-- Returns the position behind the value that begins at `at`, or nil. It is compared with its shape, if
-- there is one.
local function value_end(text, at, depth, shape, walk)
  local char = text:byte(at)
  if shape then shape = shape_inside(walk, shape, text, at) end
  if char == QUOTE then return string_end(text, at) end
  if CLOSING[char] then return nested_end(text, at, depth + 1, shape, walk) end
  local word, stop = text:match("^([%w.+-]+)()", at)
  return word and (LITERALS[word] or is_number(word)) and stop or nil
end

-- Returns the position behind the object or array that begins at `at`, or nil.
function nested_end(text, at, depth, shape, walk)
  if depth > MAX_DEPTH then return nil end
  local closing = CLOSING[text:byte(at)]
  local seen, place, index = shape and {}, shape and #walk.path + 1, 0
  at = skip_space(text, at + 1)
  if text:byte(at) == closing then return at + 1 end
  while true do
    local inner = shape
    if shape then walk.path[place] = index end
    if closing == CLOSING[BRACE] then
      local key, key_end = at, string_end(text, at)
      at = key_end and skip_space(text, key_end)
      if not at or text:byte(at) ~= COLON then return nil end
      at = skip_space(text, at + 1)
      if shape then
        walk.path[place] = unescape(text:sub(key + 1, key_end - 2))
        inner = shape_of_key(walk, shape, seen, text, at)
      end
    end
    local stop = value_end(text, at, depth, inner, walk)
    if not stop then return nil end
    if shape then walk.path[place] = nil end
    index = index + 1
    at = skip_space(text, stop)
    local char = text:byte(at)
    if char == closing then return at + 1 end
    if char ~= COMMA then return nil end
    at = skip_space(text, at + 1)
  end
end

-- Returns the header for a body, its keys in order, marked v (has a value) or n (is null); or nil and
-- the error that it deserves.
local function body_keys(text, name)
  local walk = { path = {}, keys = {} }
  local at = skip_space(text, 1)
  at = text:byte(at) == BRACE and nested_end(text, at, 0, { object = name }, walk)
  if not at or skip_space(text, at) <= #text then return nil, invalid(UNREADABLE) end
  if walk.fault then return nil, walk.fault end
  return table.concat(walk.keys, ",")
end

-- Returns the node of a POST to the path, with the name of its body, or nil if there is no such method.
-- The transcoder, too, takes a name before any, ignores slashes at the end, and reads no escapes.
local function route(path)
  local segments = {}
  for segment in path:gsub("?.*", ""):gsub("/+$", ""):gmatch("/([^/]*)") do
    segments[#segments + 1] = segment
  end
  local function follow(node, place)
    if not node then return nil end
    if place > #segments then return (node.body or node.raw) and node end
    return follow(node.next[segments[place]], place + 1) or follow(node.next["*"], place + 1)
  end
  return follow(ROUTES, 1)
end

-- The two entry points -----------------------------------------------------------------------

local GRPC_WEB = {
  ["application/grpc-web"] = true, ["application/grpc-web+proto"] = true,
  ["application/grpc-web-text"] = true, ["application/grpc-web-text+proto"] = true,
}

-- Envoy's own definition, to the letter: what differs would pass between this filter and the next.
local function is_grpc(headers)
  local kind = headers:get("content-type") or ""
  return kind == "application/grpc" or kind:sub(1, 17) == "application/grpc+"
    or GRPC_WEB[kind] ~= nil
end

local function ours(name)
  return name:match("^grpc%-") or name:match("^openai%-") or name:match("^x%-envoy%-")
    or name:match(EDGE)
end

-- What no client may send: with it, one could speak as the edge, or as the service, or to Envoy.
local function forged(name)
  return name:match(EDGE) or name:match("^x%-envoy%-")
    or name == "openai-error" or name == "openai-status"
end

local function remove(headers, unwanted)
  local names = {}
  for name in pairs(headers) do
    if unwanted(name) then names[#names + 1] = name end
  end
  for _, name in ipairs(names) do headers:remove(name) end
end

-- Whether the request reads a run: what the clients' polling helpers do until it has ended.
local function polls(request)
  return request.method == "GET" and request.path:match(POLLED) ~= nil
end

-- Returns the path, with its query, by which the API is served: Azure's clients know it as /openai/…
-- or /openai/v1/…, and name a version of theirs in the query.
local function api_path(path)
  local place, mark, query = path:match("^([^?]*)(%??)(.*)$")
  place = place:gsub("^/openai/v1/", "/v1/"):gsub("^/openai/", "/v1/")
  if not query:find(API_VERSION, 1, true) then return place .. mark .. query end
  local kept = {}
  for parameter in (query .. "&"):gmatch("([^&]*)&") do
    if parameter:match("^[^=]*") ~= API_VERSION then kept[#kept + 1] = parameter end
  end
  return #kept > 0 and place .. mark .. table.concat(kept, "&") or place
end

local function without_query(path)
  return (path:gsub("[?#].*", ""))
end

-- Returns what the service says of the answer in the edge's name: its headers, without their prefix.
local function answer_headers(headers)
  local found = {}
  for name, value in pairs(headers) do
    if name:match(EDGE) then found[name:gsub(EDGE, "")] = value end
  end
  return found
end

local function set(headers, given)
  for name, value in pairs(given) do
    headers:replace(name == "status" and ":status" or name, value)
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local grpc = is_grpc(headers)
  local metadata = handle:streamInfo():dynamicMetadata()
  remove(headers, forged)
  if grpc then
    -- Its body must not be waited for: a bidirectional stream has no end before its answer.
    metadata:set("edge", "grpc", "yes")
    return
  end
  remove(headers, function(name) return name:match("^grpc%-") or name:match("%-bin$") end)
  metadata:set("edge", "method", headers:get(":method"))
  local shown = headers:get(":path")
  local path = api_path(shown)
  if path ~= shown then
    headers:replace(":path", path)
    handle:clearRouteCache()
  end
  metadata:set("edge", "shown", without_query(shown))
  metadata:set("edge", "path", without_query(path))
  -- What is not the API's is refused at once, without its body, which may have no end.
  if headers:get(":method") ~= "POST" or not headers:get(":path"):match("^/v1/") then return end
  local found = route(headers:get(":path"))
  if not found then
    handle:respond({ [":status"] = "404" }, "")
    return
  end
  if found.raw then return end
  local body = handle:body()
  if body == nil or body:length() == 0 then return end
  local keys, fault = body_keys(body:getBytes(0, body:length()), found.body)
  if not keys then
    handle:respond({ [":status"] = "400", ["openai-error"] = fault }, "")
    return
  end
  handle:headers():add(BODY_KEYS, keys)
end

function envoy_on_response(handle)
  local request = handle:streamInfo():dynamicMetadata():get("edge") or {}
  if request.grpc then return end
  local headers = handle:headers()
  local status = tonumber(headers:get(":status"))
  local known, override = headers:get("openai-error"), headers:get("openai-status")
  -- The server has cancelled the call, as it does at its end. 499 would be the client's doing.
  if status == 499 then status, override = 503, "503" end
  local given = answer_headers(headers)
  remove(headers, ours)
  if status < 400 then
    set(headers, given)
    if polls(request) then headers:add("openai-poll-after-ms", POLL_AFTER_MS) end
    local trailers = handle:trailers()
    if trailers then remove(trailers, ours) end
    return
  end
  local body = handle:body(true)
  local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
  -- An answer to HEAD has none: the client would take it for the beginning of the next answer.
  if request.method ~= "HEAD" then body:setBytes(known or translate(status, text, request)) end
  headers = handle:headers()
  set(headers, given)
  headers:replace("content-type", "application/json")
  -- A request that Envoy cannot read, such as one in an unknown transfer coding, is the client's.
  if not override and not request.method and status >= 500 then override = "400" end
  if override then headers:replace(":status", override) end
end
