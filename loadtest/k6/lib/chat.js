// What all scripts share: settings, stages, tokens, metrics, and one session of one person.
//
// loadtest/k6/README.md explains every setting and metric.

import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import redis from 'k6/experimental/redis';
import { SharedArray } from 'k6/data';
import { clearInterval, clearTimeout, setInterval, setTimeout } from 'k6/timers';
import { Counter, Rate, Trend } from 'k6/metrics';
import { WebSocket } from './websocket.js';

// ---- settings ------------------------------------------------------------------------------------------------

export function number(name, otherwise) {
  const value = Number(__ENV[name] || otherwise);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} is not a number: ${__ENV[name]}`);
  return value;
}

const GATEWAYS = (__ENV.GATEWAY_URLS || 'ws://127.0.0.1:8001').split(',').map((url) => url.trim().replace(/\/+$/, ''));
const ORIGIN = __ENV.ORIGIN || '';
const LOUNGE = '10000000-0000-4000-8000-000000000001';
export const FIRST_USER = number('FIRST_USER', 1);
export const SESSION_SECONDS = number('SESSION_SECONDS', 15);
export const MESSAGE_SECONDS = number('MESSAGE_SECONDS', 6.5); // the gateway lets a user send 10 a minute
export const PING_SECONDS = number('PING_SECONDS', 5);
export const PATIENCE_SECONDS = number('PATIENCE_SECONDS', 10);
export const P95_MS = number('P95_MS', 1000);

// A file with one entry a line, shared by all virtual users.
export function lines(name) {
  return new SharedArray(name, () => open(__ENV[name]).split('\n').map((line) => line.trim()).filter(Boolean));
}

// The rooms, and the one of a user: as many as ROOM_SIZE who follow each other share one.
const ROOMS = __ENV.ROOMS_FILE ? lines('ROOMS_FILE') : (__ENV.ROOMS || __ENV.ROOM || LOUNGE).split(',');
const ROOM_SIZE = number('ROOM_SIZE', 50);
export const roomOf = (user) => ROOMS[Math.floor((user - FIRST_USER) / ROOM_SIZE) % ROOMS.length];

// ---- stages --------------------------------------------------------------------------------------------------

// The ladder: each step is ten times the one before it.
const NAMED = {
  handful: '500ms:5,3s:5,500ms:0',
  hundred: '30s:100,2m:100,15s:0',
  thousand: '1m:1000,5m:1000,30s:0',
  'ten-thousand': '5m:10000,10m:10000,1m:0',
  'hundred-thousand': '20m:100000,10m:100000,5m:0',
  ladder: '30s:100,2m:100,1m:1000,5m:1000,5m:10000,10m:10000,20m:100000,10m:100000,5m:0',
};

// 10s:20,1m:20,5s:0 — in 10 s to 20 people, stay so for a minute, in 5 s to none. Or a name.
export function stages(otherwise) {
  const text = __ENV.STAGES || otherwise;
  return (NAMED[text] || text).split(',').map((stage) => {
    const [duration, target] = stage.trim().split(':');
    if (!/^\d+(ms|s|m|h)$/.test(duration) || !/^\d+$/.test(target || '')) {
      throw new Error(`STAGES: ${stage} is neither like 10s:20 nor one of ${Object.keys(NAMED).join(', ')}`);
    }
    return { duration, target: Number(target) };
  });
}

// The most people of the stages: for scripts in which all come at once.
export const most = (steps) => Math.max(...steps.map((step) => step.target));

export const ramp = (steps) => ({
  executor: 'ramping-vus', startVUs: 0, stages: steps, gracefulRampDown: '60s', gracefulStop: '60s',
});

export const summaryTrendStats = ['min', 'med', 'p(95)', 'p(99)', 'max', 'count'];

// ---- what is measured ----------------------------------------------------------------------------------------

export const metrics = {
  join: new Trend('chat_join', true), // from connecting to the first state
  delivery: new Trend('chat_delivery', true), // from sending to new_message, at its sender and at everybody else
  ack: new Trend('chat_ack', true), // from sending to message_ack: it is stored
  pong: new Trend('chat_pong', true),
  sessions: new Rate('chat_sessions_ok'), // joined, and ended by us
  sent: new Counter('chat_messages_sent'),
  received: new Counter('chat_messages_received'),
  typings: new Counter('chat_typing_received'),
  lost: new Counter('chat_messages_lost'), // own messages that did not come back
  misplaced: new Counter('chat_messages_misplaced'), // not in the order of createdAt, or an offset missing or twice
  refused: new Counter('chat_errors'), // error events, by code
};

// What holds for everybody who talks. A script adds its own, or takes one away with null.
export function thresholds(own) {
  const all = {
    chat_sessions_ok: ['rate>=0.99'],
    chat_join: [`p(95)<${P95_MS}`],
    'chat_delivery{to:sender}': [`p(95)<${P95_MS}`],
    chat_ack: [`p(95)<${P95_MS}`],
    chat_pong: [`p(95)<${P95_MS}`],
    chat_messages_sent: ['count>0'],
    chat_messages_lost: ['count==0'],
    chat_messages_misplaced: ['count==0'],
    chat_errors: ['count==0'],
    ...own,
  };
  return Object.fromEntries(Object.entries(all).filter(([, limits]) => limits));
}

// What never happened is 0, not absent: a threshold on an absent counter would not be looked at.
export const zeroes = () => [metrics.lost, metrics.misplaced, metrics.refused].forEach((counter) => counter.add(0));

// ---- who comes -----------------------------------------------------------------------------------------------

const CACHE_KEYS = `${__ENV.CACHE_PREFIX || 'allthrive'}:${__ENV.CACHE_VERSION || '1'}`;
const TOKEN_SECONDS = 60;
const SECRET_KEY = __ENV.SECRET_KEY || '';
const CREDENTIALS = __ENV.CREDENTIALS || 'token';
if (CREDENTIALS !== 'token' && CREDENTIALS !== 'jwt') throw new Error(`CREDENTIALS is token or jwt, not ${CREDENTIALS}`);
if (CREDENTIALS === 'jwt' && !SECRET_KEY) throw new Error('CREDENTIALS=jwt needs SECRET_KEY, which is Django\'s');

// Tokens minted beforehand (`community-gateway token --users A-B --count N`): N lines for each user in turn. Each is good
// for one session.
const TOKENS_PER_USER = number('TOKENS_PER_USER', 1);
const minted = __ENV.TOKENS_FILE ? lines('TOKENS_FILE') : null;
const cache = minted || CREDENTIALS === 'jwt' ? null : new redis.Client(__ENV.CACHE_URL || 'redis://127.0.0.1:6379/2');

// A JWT as Django's login makes it.
function jwt(user) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => encoding.b64encode(JSON.stringify(value), 'rawurl');
  const jti = crypto.sha256(crypto.randomBytes(16), 'hex').slice(0, 32);
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.` +
    part({ token_type: 'access', exp: now + 900, iat: now - 1, jti, user_id: String(user) });
  return `${body}.${crypto.hmac('sha256', SECRET_KEY, body, 'base64rawurl')}`;
}

// What lets a user in once, as a piece of the query string. A token is what Django's view makes, but in JSON.
export async function credentials(user) {
  if (CREDENTIALS === 'jwt') return `token=${jwt(user)}`;
  if (minted) {
    const session = exec.vu.iterationInScenario;
    const at = (user - FIRST_USER) * TOKENS_PER_USER + session;
    if (session >= TOKENS_PER_USER || at >= minted.length) {
      exec.test.abort(`TOKENS_FILE has no token for session ${session + 1} of user ${user}`);
    }
    return `connection_token=${minted[at]}`;
  }
  const name = encoding.b64encode(crypto.randomBytes(32), 'rawurl');
  const value = { user_id: user, username: `k6-${user}`, connection_id: null, created_at: Date.now() / 1000, used: false };
  await cache.set(`${CACHE_KEYS}:ws_conn_token:${name}`, JSON.stringify(value), TOKEN_SECONDS);
  return `connection_token=${name}`;
}

// The user of this virtual user: the first is FIRST_USER. Where one plays two people, they are neighbours.
export const userOf = (people = 1, person = 0) => FIRST_USER + (exec.vu.idInTest - 1) * people + person;

// An instance: sessions take turns.
export const gateway = (turn = 0) => GATEWAYS[(exec.vu.idInTest + exec.vu.iterationInScenario + turn) % GATEWAYS.length];

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// ---- a session -----------------------------------------------------------------------------------------------

// One socket. `entered` is a promise of the first state, or of null when there was none; `ended` one of the end.
export class Session {
  // options: gateway, tags (of what is measured), seconds (after which it is an error that it has not ended)
  constructor(path, user, query, options = {}) {
    const host = options.gateway || gateway();
    const headers = ORIGIN ? { Origin: ORIGIN } : {};
    Object.assign(this, { user, tags: options.tags || {}, offset: 0, epoch: '', ticket: '', joined: false, over: false });
    Object.assign(this, { leaving: false, timers: [], awaited: new Map(), unstored: new Map(), lastTime: '', count: 0 });
    // No two sessions, of this run or another, may share a client_id: the gateway takes the same for the same message.
    this.name = encoding.b64encode(crypto.randomBytes(9), 'rawurl');
    this.listeners = {};
    this.entered = new Promise((resolve) => { this.isEntered = resolve; });
    this.ended = new Promise((resolve) => { this.isEnded = resolve; });
    this.started = Date.now();
    // The address without its secret, so that all sessions count as one series.
    const name = `${host}${path.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, '')}`;
    this.socket = new WebSocket(`${host}${path}?${query}`, null, { headers, tags: { name, url: host } });
    this.guard = setTimeout(() => {
      console.error(`user ${user}: the session did not end`);
      this.socket.close();
      this.end(false);
    }, ((options.seconds || SESSION_SECONDS) + 3 * PATIENCE_SECONDS) * 1000);
    this.socket.onmessage = (message) => this.take(JSON.parse(message.data));
    this.socket.onclose = () => {
      if (!this.leaving) console.error(`user ${user}: closed by the gateway${this.joined ? '' : ', and never let in'}`);
      this.end(this.leaving);
    };
    this.socket.onerror = (error) => {
      if (!this.over && !this.leaving) console.error(`user ${user}: ${error.error}`);
    };
  }

  on(event, listener) {
    this.listeners[event] = listener;
    return this;
  }

  take(event) {
    const { tags } = this;
    switch (event.event) {
      case 'room_state': case 'dm_state': case 'presence_state': case 'resumed':
        if (event.event === 'resumed' && !event.recovered) break; // a state follows
        if (event.offset !== undefined) [this.offset, this.epoch] = [event.offset, event.epoch];
        if (!this.joined) {
          this.joined = true;
          if (event.event !== 'resumed') metrics.join.add(Date.now() - this.started, tags);
          this.isEntered(event);
        }
        break;
      case 'session':
        this.ticket = event.resumeToken;
        break;
      case 'new_message': {
        metrics.received.add(1);
        const mine = this.awaited.delete(event.clientId);
        const at = Number(event.message.content.split(' ', 1)[0]);
        if (at) metrics.delivery.add(Date.now() - at, { to: mine ? 'sender' : 'others', ...tags });
        if (event.message.createdAt <= this.lastTime || event.offset !== this.offset + 1) metrics.misplaced.add(1);
        [this.lastTime, this.offset] = [event.message.createdAt, event.offset];
        if (mine && this.leaving && this.awaited.size === 0) this.socket.close(1000);
        break;
      }
      case 'message_ack':
        metrics.ack.add(Date.now() - this.unstored.get(event.clientId), tags);
        this.unstored.delete(event.clientId);
        break;
      case 'typing':
        metrics.typings.add(1);
        break;
      case 'pong':
        metrics.pong.add(Date.now() - this.pinged, tags);
        break;
      case 'error':
        metrics.refused.add(1, { code: event.code });
        console.warn(`user ${this.user}: ${event.code}: ${event.message}${event.retryAfter ? ` (in ${event.retryAfter} s)` : ''}`);
        this.awaited.delete(event.clientId);
        break;
      default:
    }
    if (this.listeners[event.event]) this.listeners[event.event](event);
  }

  say(frame) { this.socket.send(JSON.stringify(frame)); }

  every(seconds, act) { this.timers.push(setInterval(act, seconds * 1000)); }

  // Says that one types, and then something; to be seen again by everybody, the sender too.
  write() {
    this.say({ type: 'typing', is_typing: true });
    const clientId = `${this.name}-${this.count++}`;
    this.awaited.set(clientId, Date.now());
    this.unstored.set(clientId, Date.now());
    this.say({ type: 'send_message', content: `${Date.now()} from ${this.user}: hello, all of you`, client_id: clientId });
    metrics.sent.add(1);
  }

  ping() {
    this.pinged = Date.now();
    this.say({ type: 'ping' });
  }

  // Writes and pings until it leaves. Not all at once: people come at one moment and write at another.
  talk(seconds = SESSION_SECONDS) {
    this.every(PING_SECONDS, () => this.ping());
    setTimeout(() => {
      if (this.leaving || this.over) return;
      this.write();
      this.every(MESSAGE_SECONDS, () => this.write());
    }, Math.random() * Math.min(MESSAGE_SECONDS, seconds / 2) * 1000);
  }

  // Ends it, when its own messages have come back, or after the patience.
  leave() {
    this.leaving = true;
    this.timers.forEach(clearInterval);
    if (this.awaited.size === 0) this.socket.close(1000);
    else setTimeout(() => { if (!this.over) this.socket.close(1000); }, PATIENCE_SECONDS * 1000); // the rest is lost
    return this.ended;
  }

  end(ok) {
    if (this.over) return;
    this.over = true;
    this.timers.forEach(clearInterval);
    clearTimeout(this.guard);
    metrics.lost.add(this.awaited.size);
    metrics.sessions.add(ok && this.joined);
    this.isEntered(null);
    this.isEnded();
  }
}

// A whole visit: comes, talks for SESSION_SECONDS, leaves.
export async function visit(path, user, tags = {}) {
  zeroes();
  const session = new Session(path, user, await credentials(user), { tags });
  if (!(await session.entered)) return;
  session.talk();
  await Promise.race([pause(SESSION_SECONDS), session.ended]);
  if (!session.over) await session.leave();
}
