// Phones in tunnels: each virtual user plays two people. One goes away and comes back to another instance with its ticket,
// the other one stays and writes meanwhile. What was missed must be replayed, once and in order.

import { Counter, Trend } from 'k6/metrics';
import { P95_MS, PATIENCE_SECONDS, Session, credentials, gateway, metrics, number, pause, ramp, roomOf, stages, summaryTrendStats,
  thresholds, userOf, zeroes } from './lib/chat.js';

const AWAY_SECONDS = number('AWAY_SECONDS', 1);
const RETURNS = number('RETURNS', 2);
const resumed = new Trend('chat_resume', true); // from connecting to the end of the replay
const replayed = new Counter('chat_replayed'); // events in replays
const restated = new Counter('chat_restated'); // returns that got a whole state in place of a replay

export const options = {
  scenarios: { phones: ramp(stages('hundred')) },
  thresholds: thresholds({
    chat_resume: [`p(95)<${P95_MS}`],
    chat_replayed: ['count>0'],
    chat_restated: ['count==0'],
    chat_pong: null,
  }),
  summaryTrendStats,
};

export default async function () {
  zeroes();
  restated.add(0);
  const [staying, going] = [userOf(2, 0), userOf(2, 1)];
  const path = `/ws/community/room/${roomOf(staying)}/`;
  const seconds = RETURNS * (AWAY_SECONDS + 2 * PATIENCE_SECONDS);
  const stayer = new Session(path, staying, await credentials(staying), { seconds });
  if (!(await stayer.entered)) return;
  let phone = new Session(path, going, await credentials(going), { seconds });
  for (let turn = 1; turn <= RETURNS && (await phone.entered); turn += 1) {
    // The ticket comes after the state.
    for (let waited = 0; !phone.ticket && waited < PATIENCE_SECONDS; waited += 0.05) await pause(0.05);
    const place = `epoch=${encodeURIComponent(phone.epoch)}&offset=${phone.offset}`;
    const query = `resume_token=${encodeURIComponent(phone.ticket)}&${place}`;
    const last = phone.offset;
    await phone.leave();
    stayer.write();
    await pause(AWAY_SECONDS);
    const began = Date.now();
    phone = new Session(path, going, query, { gateway: gateway(turn), seconds });
    const event = await phone.entered;
    if (!event) break;
    if (event.event !== 'resumed') {
      restated.add(1);
      continue;
    }
    resumed.add(Date.now() - began);
    const offsets = event.events.map((one) => one.offset).filter((offset) => offset !== undefined);
    replayed.add(offsets.length);
    // Every offset after the last that was seen, none twice.
    offsets.forEach((offset, index) => { if (offset !== last + index + 1) metrics.misplaced.add(1); });
  }
  if (!phone.over) await phone.leave();
  if (!stayer.over) await stayer.leave();
}
