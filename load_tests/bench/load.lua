-- Sends the request bodies of a folder in turn, and prints wrk's own measurements as one line of JSON.
-- Arguments after "--": folder, number of bodies, mean pause per connection in ms (0: none), headers "Name: value".

local requests, sent = {}, 0

local function read(path)
  local file = assert(io.open(path, "rb"))
  local body = file:read("*a")
  file:close()
  return body
end

function init(args)
  local folder, bodies, pause_ms = args[1], tonumber(args[2]), tonumber(args[3])
  for i = 4, #args do
    local name, value = args[i]:match("^([^:]+):%s*(.*)$")
    wrk.headers[name] = value
  end
  for i = 1, bodies do
    requests[i] = wrk.format("POST", nil, nil, read(string.format("%s/%d", folder, i - 1)))
  end
  if pause_ms > 0 then
    -- Exponential pauses, as independent users make them; wrk takes whole milliseconds, so the rest is drawn.
    delay = function()
      return math.floor(-pause_ms * math.log(1 - math.random()) + math.random())
    end
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %.0f, "p99_us": %.0f, "max_us": %.0f, '
      .. '"status_errors": %d, "socket_errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
