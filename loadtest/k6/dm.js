// Direct conversations: two virtual users each, who write to one another.
//
// DMS_FILE has one conversation a line: the thread's id and the ids of its two participants.

import { P95_MS, lines, ramp, stages, summaryTrendStats, thresholds, visit } from './lib/chat.js';
import exec from 'k6/execution';

const conversations = __ENV.DMS_FILE ? lines('DMS_FILE') : null;
if (!conversations) throw new Error('DMS_FILE is missing: a line for each conversation, "thread-id user user"');

export const options = {
  scenarios: { conversations: ramp(stages('hundred')) },
  thresholds: thresholds({ 'chat_delivery{to:others}': [`p(95)<${P95_MS}`] }),
  summaryTrendStats,
};

export default function () {
  const number = exec.vu.idInTest - 1;
  const [thread, ...users] = conversations[Math.floor(number / 2) % conversations.length].split(/\s+/);
  return visit(`/ws/community/dm/${thread}/`, Number(users[number % 2]));
}
