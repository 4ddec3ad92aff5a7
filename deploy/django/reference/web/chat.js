// The community in one page: log in, choose a room, talk, mention, block, report. Sockets go to a gateway, the rest to Django.

const at = (id) => document.getElementById(id);
const GATEWAYS = JSON.parse(at('gateways').textContent);
const FINAL = new Set([1000, 1003, 1007, 1008, 1009, 4003, 4004]); // coming back would not help
let me = null, csrf = '', room = null, socket = null, app = null, tries = 0, delay = null;
let online = new Map();

async function api(path, body, method = body ? 'POST' : 'GET') {
  const headers = { 'Content-Type': 'application/json', 'X-CSRFToken': csrf };
  const answer = await fetch(`/api/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const value = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw Object.assign(new Error(value?.detail ?? JSON.stringify(value)), { status: answer.status });
  return value;
}

function notice(text) { at('notice').textContent = text ?? ''; }

// ---- who ---------------------------------------------------------------------------------------------------------

async function begin() {
  try {
    ({ user: me, csrfToken: csrf } = await api('auth/me/'));
  } catch {
    at('login').hidden = false;
    at('app').hidden = true;
    at('username').focus();
    return;
  }
  at('login').hidden = true;
  at('app').hidden = false;
  at('me').textContent = me.username;
  at('admin').hidden = !me.isStaff;
  at('gateway').replaceChildren(...GATEWAYS.map((url) => {
    const { host } = new URL(url);
    return new Option(host === location.host ? `${host} (Daphne)` : host, url);
  }));
  const { rooms } = await api('community/rooms/');
  at('rooms').replaceChildren(...rooms.map((one) => {
    const button = document.createElement('button');
    button.textContent = one.visibility === 'public' ? one.name : `${one.name} (private)`;
    button.addEventListener('click', () => enter(one));
    const item = document.createElement('li');
    item.append(button);
    return item;
  }));
  follow();
  if (rooms.length) enter(rooms[0]);
}

at('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  try {
    await api('auth/login/', { username: at('username').value, password: at('password').value });
    at('login-error').textContent = '';
    begin();
  } catch (error) {
    at('login-error').textContent = error.message;
  }
});

at('logout').addEventListener('click', async () => {
  await api('auth/logout/', { everywhere: true });
  leave();
  begin();
});

// ---- sockets -----------------------------------------------------------------------------------------------------

async function dial(path) {
  const { connection_token: token } = await api('auth/ws-token/', {});
  const base = at('gateway').value;
  return new WebSocket(`${base}/ws/community/${path}/?connection_token=${encodeURIComponent(token)}`);
}

async function follow() { // what concerns this person anywhere
  app = await dial('presence');
  app.addEventListener('message', ({ data }) => {
    const event = JSON.parse(data);
    if (event.event === 'mention') notice(`${event.author.username} mentioned you.`);
    if (event.event === 'moderation') notice(`A moderator: ${event.action}${event.reason ? `, ${event.reason}` : ''}.`);
  });
}

function leave() {
  const old = [socket, app];
  socket = app = room = null;
  old.forEach((one) => one?.close(1000));
}

async function enter(one) {
  room = one;
  const old = socket;
  socket = null;
  old?.close(1000);
  at('status').textContent = 'connecting';
  const mine = await dial(`room/${one.id}`).catch((error) => ended(null, null, error));
  if (!mine || room !== one) return mine?.close(1000);
  socket = mine;
  mine.addEventListener('message', ({ data }) => { const event = JSON.parse(data); events[event.event]?.(event); });
  mine.addEventListener('close', ({ code, reason }) => ended(mine, code, reason));
}

function ended(which, code, reason) {
  if (which && which !== socket) return;
  if (reason?.status === 401 || code === 4001) {
    at('status').textContent = 'session ended';
    leave();
    begin();
  } else if (FINAL.has(code)) {
    at('status').textContent = 'closed';
    notice(`Closed by the gateway (${code}${reason ? `: ${reason}` : ''}).`);
  } else {
    const wait = delay ?? Math.min(30_000, 500 * 2 ** tries++) * (0.5 + Math.random() / 2);
    delay = null;
    at('status').textContent = `back in ${Math.ceil(wait / 1000)} s`;
    const wanted = room;
    setTimeout(() => room === wanted && wanted && enter(wanted), wait);
  }
}

const send = (frame) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));
setInterval(() => send({ type: 'ping' }), 20_000);

const events = {
  room_state(state) {
    tries = 0;
    at('status').textContent = 'connected';
    notice('');
    at('room-name').textContent = state.room.name;
    at('messages').replaceChildren();
    online = new Map(state.onlineUsers.map(({ userId, username }) => [userId, username]));
    state.messages.forEach(show);
    showOnline();
  },
  new_message: ({ message }) => show(message),
  message_edited: ({ message }) => show(message),
  message_deleted: ({ messageId }) => find(messageId)?.remove(),
  message_pinned({ messageId, isPinned }) { find(messageId)?.classList.toggle('pinned', isPinned); },
  user_joined({ userId, username }) { online.set(userId, username); showOnline(); },
  user_left({ userId }) { online.delete(userId); showOnline(); },
  typing({ userId, username, isTyping }) { if (userId !== me.id) at('typing').textContent = isTyping ? `${username} is typing` : ''; },
  room_updated({ room: changed }) { at('room-name').textContent = changed.name; },
  error({ message }) { notice(message); },
  reconnect({ delayMs }) { delay = delayMs; },
};

// ---- what is seen ------------------------------------------------------------------------------------------------

const find = (id) => at('messages').querySelector(`[data-id="${id}"]`);

function button(text, act) {
  const made = document.createElement('button');
  made.textContent = text;
  made.addEventListener('click', () => act().catch((error) => notice(error.message)));
  return made;
}

async function block(user) { // the gateway sends nothing of theirs from now on; what is here goes too
  await api('community/blocks/', { user_id: user });
  at('messages').querySelectorAll(`[data-author="${user}"]`).forEach((item) => item.remove());
  online.delete(user);
  showOnline();
  notice('Blocked.');
}

function show(message) {
  const item = document.createElement('li');
  const name = document.createElement('b');
  const text = document.createElement('span');
  item.dataset.id = message.id;
  item.dataset.author = message.author.id;
  item.classList.toggle('mention', message.mentions.map(String).includes(me.id));
  name.textContent = `${message.author.username}: `;
  text.className = message.messageType === 'deleted' ? 'text deleted' : 'text';
  text.textContent = message.content;
  item.append(name, text, ' ');
  if (message.author.id && message.author.id !== me.id) {
    item.append(
      button('report', async () => {
        const reason = prompt('What is wrong with it?');
        if (reason) notice((await api(`community/messages/${message.id}/report/`, { reason })).reported ? 'Reported.' : 'Reported before.');
      }),
      button('block', () => block(message.author.id)),
    );
  }
  const old = find(message.id);
  if (old) return old.replaceWith(item);
  at('messages').append(item);
  item.scrollIntoView({ block: 'end' });
}

function showOnline() {
  at('online-count').textContent = online.size;
  at('online').replaceChildren(...[...online.values()].sort().map((name) => Object.assign(document.createElement('li'), { textContent: name })));
}

let typed = 0;
at('text').addEventListener('input', () => {
  if (Date.now() - typed > 3000) { typed = Date.now(); send({ type: 'typing', is_typing: true }); }
});
at('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  if (at('text').value.trim() && send({ type: 'send_message', content: at('text').value }) !== false) at('text').value = '';
});
at('gateway').addEventListener('change', () => room && enter(room));
begin();
