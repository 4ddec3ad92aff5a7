// Everybody at the same moment: after a deploy, a broken proxy, the start of a lesson. Then they stay for a while.
//
// The number of people is the highest of STAGES.

import exec from 'k6/execution';
import { SESSION_SECONDS, P95_MS, Session, credentials, most, number, pause, roomOf, stages, summaryTrendStats, thresholds,
  userOf, zeroes } from './lib/chat.js';

const PEOPLE = most(stages('hundred'));
const STORM_MS = number('STORM_MS', 5000); // all have their state within this
const GATHER_SECONDS = number('GATHER_SECONDS', 1 + Math.ceil(PEOPLE / 500)); // until all virtual users are there

export const options = {
  scenarios: { storm: { executor: 'per-vu-iterations', vus: PEOPLE, iterations: 1, maxDuration: '10m' } },
  thresholds: thresholds({
    chat_join: [`max<${STORM_MS}`, `p(95)<${Math.max(P95_MS, STORM_MS)}`],
    chat_sessions_ok: ['rate==1'],
    'chat_delivery{to:sender}': null,
    chat_ack: null,
    chat_messages_sent: null,
  }),
  summaryTrendStats,
};

export const setup = () => ({ at: Date.now() + GATHER_SECONDS * 1000 });

export default async function ({ at }) {
  zeroes();
  const user = userOf();
  const query = await credentials(user);
  if (Date.now() > at + 500) console.warn(`virtual user ${exec.vu.idInTest} is late: raise GATHER_SECONDS`);
  await pause(Math.max(0, at - Date.now()) / 1000);
  const session = new Session(`/ws/community/room/${roomOf(user)}/`, user, query);
  if (!(await session.entered)) return;
  session.ping();
  await Promise.race([pause(SESSION_SECONDS), session.ended]);
  if (!session.over) await session.leave();
}
