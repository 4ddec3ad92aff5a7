// People in one room: each connects with a fresh token, writes, types, reads along, leaves, comes back.
//
//   k6 run -e CACHE_URL=redis://127.0.0.1:6379/2 -e GATEWAY_URLS=ws://127.0.0.1:8001 loadtest/k6/smoke.js
//
// loadtest/README.md explains every setting and metric; loadtest/k6/run-smoke brings up all that is needed first.

import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import redis from 'k6/experimental/redis';
import { WebSocket } from 'k6/experimental/websockets';
import { SharedArray } from 'k6/data';
import { clearInterval, clearTimeout, setInterval, setTimeout } from 'k6/timers';
import { Counter, Rate, Trend } from 'k6/metrics';

// ---- settings ------------------------------------------------------------------------------------------------

const number = (name, otherwise) => {
  const value = Number(__ENV[name] || otherwise);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} is not a number: ${__ENV[name]}`);
  return value;
};

const GATEWAYS = (__ENV.GATEWAY_URLS || 'ws://127.0.0.1:8001').split(',').map((url) => url.trim().replace(/\/+$/, ''));
const ROOM = __ENV.ROOM || '10000000-0000-4000-8000-000000000001';
const ORIGIN = __ENV.ORIGIN || '';
const FIRST_USER = number('FIRST_USER', 1);
const SESSION_SECONDS = number('SESSION_SECONDS', 15);
const MESSAGE_SECONDS = number('MESSAGE_SECONDS', 6.5); // the gateway lets a user send 10 a minute
const PING_SECONDS = number('PING_SECONDS', 5);
const PATIENCE_SECONDS = number('PATIENCE_SECONDS', 10);
const P95_MS = number('P95_MS', 1000);

const CACHE_URL = __ENV.CACHE_URL || 'redis://127.0.0.1:6379/2';
const CACHE_KEYS = `${__ENV.CACHE_PREFIX || 'allthrive'}:${__ENV.CACHE_VERSION || '1'}`;
const TOKEN_SECONDS = 60;

// Tokens minted beforehand (`community-gateway token --users A-B --count N`): N lines for each user in turn. Each is good
// for one session.
const TOKENS_PER_USER = number('TOKENS_PER_USER', 1);
const minted = __ENV.TOKENS_FILE
  ? new SharedArray('tokens', () => open(__ENV.TOKENS_FILE).split('\n').map((line) => line.trim()).filter(Boolean))
  : null;

// 10s:20,1m:20,5s:0 — in 10 s to 20 people, stay so for a minute, in 5 s to none.
const stages = (__ENV.STAGES || '5s:10,20s:10,5s:0').split(',').map((stage) => {
  const [duration, target] = stage.trim().split(':');
  if (!/^\d+(ms|s|m|h)$/.test(duration) || !/^\d+$/.test(target)) throw new Error(`STAGES: ${stage} is not like 10s:20`);
  return { duration, target: Number(target) };
});

// ---- what is measured ----------------------------------------------------------------------------------------

const joinMs = new Trend('chat_join', true); // from connecting to room_state
const deliveryMs = new Trend('chat_delivery', true); // from sending to new_message, at its sender and at everybody else
const ackMs = new Trend('chat_ack', true); // from sending to message_ack: it is stored
const pongMs = new Trend('chat_pong', true);
const sessions = new Rate('chat_sessions_ok'); // joined, and ended by us
const sent = new Counter('chat_messages_sent');
const received = new Counter('chat_messages_received');
const typings = new Counter('chat_typing_received');
const lost = new Counter('chat_messages_lost'); // own messages that did not come back
const misplaced = new Counter('chat_messages_misplaced'); // not in the order of createdAt, or an offset missing or twice
const refused = new Counter('chat_errors'); // error events, by code

export const options = {
  scenarios: {
    room: { executor: 'ramping-vus', startVUs: 0, stages, gracefulRampDown: '60s', gracefulStop: '60s' },
  },
  thresholds: {
    chat_sessions_ok: ['rate>=0.99'],
    chat_join: [`p(95)<${P95_MS}`],
    'chat_delivery{to:sender}': [`p(95)<${P95_MS}`],
    'chat_delivery{to:others}': [`p(95)<${P95_MS}`],
    chat_ack: [`p(95)<${P95_MS}`],
    chat_pong: [`p(95)<${P95_MS}`],
    chat_messages_sent: ['count>0'],
    chat_typing_received: ['count>0'],
    chat_messages_lost: ['count==0'],
    chat_messages_misplaced: ['count==0'],
    chat_errors: ['count==0'],
  },
  summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max', 'count'],
};
// What never happened is 0, not absent: a threshold on an absent counter would not be looked at.
const zeroes = () => [lost, misplaced, refused].forEach((counter) => counter.add(0));

// ---- a token, as Django's view makes it, but in JSON ----------------------------------------------------------

const cache = minted ? null : new redis.Client(CACHE_URL);

async function token(user) {
  if (minted) {
    const session = exec.vu.iterationInScenario;
    const at = (user - FIRST_USER) * TOKENS_PER_USER + session;
    if (session >= TOKENS_PER_USER || at >= minted.length) {
      exec.test.abort(`TOKENS_FILE has no token for session ${session + 1} of user ${user}`);
    }
    return minted[at];
  }
  const name = encoding.b64encode(crypto.randomBytes(32), 'rawurl');
  const value = { user_id: user, username: `k6-${user}`, connection_id: null, created_at: Date.now() / 1000, used: false };
  await cache.set(`${CACHE_KEYS}:ws_conn_token:${name}`, JSON.stringify(value), TOKEN_SECONDS);
  return name;
}

// ---- a session -----------------------------------------------------------------------------------------------

export default async function () {
  zeroes();
  const user = FIRST_USER + exec.vu.idInTest - 1;
  const gateway = GATEWAYS[(exec.vu.idInTest + exec.vu.iterationInScenario) % GATEWAYS.length];
  const credentials = await token(user);
  await new Promise((resolve) => session(gateway, user, credentials, resolve));
}

function session(gateway, user, credentials, ended) {
  const url = `${gateway}/ws/community/room/${ROOM}/?connection_token=${credentials}`;
  const headers = ORIGIN ? { Origin: ORIGIN } : {};
  // The address without its secret, so that all sessions count as one series.
  const socket = new WebSocket(url, null, { headers, tags: { name: `${gateway}/ws/community/room/`, url: gateway } });
  const started = Date.now();
  const awaited = new Map(); // client_id → when it was sent, until it comes back
  const unstored = new Map(); // the same, until it is acknowledged
  // No two sessions, of this run or another, may share a client_id: the gateway takes the same for the same message.
  const name = encoding.b64encode(crypto.randomBytes(9), 'rawurl');
  const timers = [];
  let [joined, leaving, over] = [false, false, false];
  let [lastTime, lastOffset, pinged, count] = ['', 0, 0, 0];

  const end = (ok) => {
    if (over) return;
    over = true;
    timers.forEach(clearInterval);
    clearTimeout(guard);
    lost.add(awaited.size);
    sessions.add(ok && joined);
    ended();
  };
  const guard = setTimeout(() => {
    console.error(`user ${user}: the session did not end`);
    socket.close();
    end(false);
  }, (SESSION_SECONDS + 3 * PATIENCE_SECONDS) * 1000);
  const say = (frame) => socket.send(JSON.stringify(frame));

  const leave = () => {
    leaving = true;
    timers.forEach(clearInterval);
    if (awaited.size === 0) return socket.close(1000);
    setTimeout(() => { if (!over) socket.close(1000); }, PATIENCE_SECONDS * 1000); // what has not come by then is lost
  };

  const write = () => {
    say({ type: 'typing', is_typing: true });
    const clientId = `${name}-${count++}`;
    awaited.set(clientId, Date.now());
    unstored.set(clientId, Date.now());
    say({ type: 'send_message', content: `${Date.now()} from ${user}: hello, room`, client_id: clientId });
    sent.add(1);
  };

  const events = {
    room_state: (event) => {
      joined = true;
      joinMs.add(Date.now() - started);
      lastOffset = event.offset;
      // Not all at once: people come at one moment and write at another.
      setTimeout(() => { if (!leaving && !over) { write(); timers.push(setInterval(write, MESSAGE_SECONDS * 1000)); } },
        Math.random() * Math.min(MESSAGE_SECONDS, SESSION_SECONDS / 2) * 1000);
      timers.push(setInterval(() => { pinged = Date.now(); say({ type: 'ping' }); }, PING_SECONDS * 1000));
      setTimeout(leave, SESSION_SECONDS * 1000);
    },
    new_message: (event) => {
      received.add(1);
      const mine = awaited.delete(event.clientId);
      const at = Number(event.message.content.split(' ', 1)[0]);
      if (at) deliveryMs.add(Date.now() - at, { to: mine ? 'sender' : 'others' });
      if (event.message.createdAt <= lastTime || event.offset !== lastOffset + 1) misplaced.add(1);
      [lastTime, lastOffset] = [event.message.createdAt, event.offset];
      if (mine && leaving && awaited.size === 0) socket.close(1000);
    },
    message_ack: (event) => {
      ackMs.add(Date.now() - unstored.get(event.clientId));
      unstored.delete(event.clientId);
    },
    typing: () => typings.add(1),
    pong: () => pongMs.add(Date.now() - pinged),
    error: (event) => {
      refused.add(1, { code: event.code });
      console.warn(`user ${user}: ${event.code}: ${event.message}${event.retryAfter ? ` (in ${event.retryAfter} s)` : ''}`);
      awaited.delete(event.clientId);
    },
  };

  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (events[event.event]) events[event.event](event);
  };
  socket.onclose = () => {
    if (!leaving) console.error(`user ${user}: closed by the gateway${joined ? '' : ', and never let in'}`);
    end(leaving);
  };
  socket.onerror = (error) => {
    if (!over && !leaving) console.error(`user ${user}: ${error.error}`);
  };
}
