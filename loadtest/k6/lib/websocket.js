// WebSocket of the k6 that runs this: `k6/websockets` where there is one, else its experimental forerunner.

let found;
try {
  found = require('k6/websockets');
} catch (_) {
  found = require('k6/experimental/websockets');
}
exports.WebSocket = found.WebSocket;
