// Many rooms of ROOM_SIZE people who talk: what an ordinary day is made of.

import { P95_MS, ramp, roomOf, stages, summaryTrendStats, thresholds, userOf, visit } from './lib/chat.js';

export const options = {
  scenarios: { rooms: ramp(stages('hundred')) },
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
