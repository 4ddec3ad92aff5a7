// The same as rooms, for hours: do the answers become slower, is something lost after a while? Times are judged twice, in the
// first and in the last third of the run.

import exec from 'k6/execution';
import { P95_MS, ramp, roomOf, stages, summaryTrendStats, thresholds, userOf, visit } from './lib/chat.js';

const steps = stages('2m:200,2h:200,1m:0');
const limits = {};
for (const part of ['first', 'last']) {
  limits[`chat_join{part:${part}}`] = [`p(95)<${P95_MS}`];
  limits[`chat_delivery{part:${part}}`] = [`p(95)<${P95_MS}`];
  limits[`chat_ack{part:${part}}`] = [`p(95)<${P95_MS}`];
}

export const options = {
  scenarios: { days: ramp(steps) },
  thresholds: thresholds({ 'chat_delivery{to:others}': [`p(95)<${P95_MS}`], ...limits }),
  summaryTrendStats,
};

export default function () {
  const user = userOf();
  const part = exec.scenario.progress < 1 / 3 ? 'first' : exec.scenario.progress > 2 / 3 ? 'last' : 'middle';
  return visit(`/ws/community/room/${roomOf(user)}/`, user, { part });
}
