// People in one room: each connects, writes, types, reads along, leaves, comes back.

import { P95_MS, ramp, roomOf, stages, summaryTrendStats, thresholds, userOf, visit } from './lib/chat.js';

export const options = {
  scenarios: { room: ramp(stages('5s:10,20s:10,5s:0')) },
  thresholds: thresholds({
    'chat_delivery{to:others}': [`p(95)<${P95_MS}`],
    chat_typing_received: ['count>0'],
  }),
  summaryTrendStats,
};

export default function () {
  const user = userOf();
  return visit(`/ws/community/room/${roomOf(user)}/`, user);
}
