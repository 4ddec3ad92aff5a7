// Who is online: each virtual user plays two people. One watches the other, who comes and goes on another instance.

import { Trend } from 'k6/metrics';
import { PATIENCE_SECONDS, P95_MS, Session, credentials, gateway, metrics, number, pause, ramp, stages, summaryTrendStats,
  thresholds, userOf, zeroes } from './lib/chat.js';

// The gateway waits so long before it believes that somebody has gone (GATEWAY_PRESENCE_GRACE_SECONDS).
const GRACE_SECONDS = number('GRACE_SECONDS', 5);
const PATH = '/ws/community/presence/';
const online = new Trend('chat_presence_online', true); // from connecting until the watcher is told
const offline = new Trend('chat_presence_offline', true); // from leaving until the watcher is told, the grace included

export const options = {
  scenarios: { watchers: ramp(stages('hundred')) },
  thresholds: thresholds({
    chat_presence_online: [`p(95)<${P95_MS}`],
    chat_presence_offline: [`p(95)<${P95_MS + 1000 * (GRACE_SECONDS + 1)}`],
    'chat_delivery{to:sender}': null,
    chat_ack: null,
    chat_messages_sent: null,
  }),
  summaryTrendStats,
};

export default async function () {
  zeroes();
  const [watching, watched] = [userOf(2, 0), userOf(2, 1)];
  const seconds = 2 * GRACE_SECONDS + 10;
  const name = String(watched);
  const told = { true: null, false: null };
  let there = false; // as the watcher was told
  const look = (event) => {
    const value = (event.users || {})[name];
    if (value === undefined) return;
    there = value;
    if (told[value]) told[value]();
  };
  const watcher = new Session(PATH, watching, await credentials(watching), { seconds });
  watcher.on('presence_state', look).on('presence_update', look);
  if (!(await watcher.entered)) return;
  const wait = (value) => Promise.race([
    new Promise((resolve) => { told[value] = () => resolve(true); }), watcher.ended, pause(GRACE_SECONDS + PATIENCE_SECONDS),
  ]);
  // Who has just gone may still be there for others: only then is it worth something that somebody comes. A partner in a
  // conversation is watched from the beginning.
  const state = new Promise((resolve) => {
    watcher.on('presence_state', (event) => { look(event); resolve(); });
  });
  watcher.say({ type: 'watch', user_ids: [name] });
  await Promise.race([state, watcher.ended, pause(PATIENCE_SECONDS)]);
  if (there) await wait(false);
  watcher.ping();

  const coming = wait(true);
  const came = Date.now();
  const visitor = new Session(PATH, watched, await credentials(watched), { gateway: gateway(1), seconds });
  if (await coming) online.add(Date.now() - came);
  else metrics.lost.add(1);
  await visitor.entered; // the watcher may be told before the visitor has its own state
  const going = wait(false);
  const went = Date.now();
  await visitor.leave();
  if (await going) offline.add(Date.now() - went);
  else metrics.lost.add(1);
  await watcher.leave();
}
