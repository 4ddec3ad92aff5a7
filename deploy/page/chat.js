// A small chat over the gateway's protocol: pick a person, a gateway and a room, and talk.
// The same choices can stand in the address: ?user=ada&gateway=one&room=The%20Lounge enters at once.

const at = (id) => document.getElementById(id);
const PING_EVERY = 20_000; // the gateway ends a connection that is silent for a minute
const TYPING_EVERY = 3_000;
const TYPING_ENDS = 5_000;
// Closed with one of these, coming back would not help: the client's own goodbye, a frame of ours that was wrong, no access.
const FINAL_CODES = new Set([1000, 1003, 1007, 1008, 1009, 4003, 4004]);

const choices = { user: null, gateway: null, room: null };
let session = null;

// ---- the door ------------------------------------------------------------------------------------------------

async function json(path, body) {
  const options = body && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error ?? `${path}: ${answer.status}`);
  return value;
}

function offer(id, kind, options) {
  const asked = new URLSearchParams(location.search).get(kind);
  const chosen = options.find((option) => option.name === asked) ?? options[0];
  at(id).replaceChildren(...options.map((option) => {
    const label = document.createElement('label');
    const input = Object.assign(document.createElement('input'), { type: 'radio', name: kind, value: option.name });
    const name = document.createElement('span');
    name.textContent = option.label ?? option.name;
    input.checked = option === chosen;
    input.addEventListener('change', () => { choices[kind] = option; });
    label.append(input, name);
    return label;
  }));
  choices[kind] = chosen;
}

async function open() {
  try {
    const config = await json('config');
    offer('people', 'user', config.users.map((user) => ({ ...user, name: user.username })));
    offer('gateways', 'gateway', config.gateways);
    offer('rooms', 'room', config.rooms.map((room) => ({ ...room, label: room.visibility === 'public' ? room.name : `${room.name} (private)` })));
    if (new URLSearchParams(location.search).has('user')) enter();
  } catch (error) {
    tell('door-error', `The page's server does not answer: ${error.message}`);
  }
}

function enter() {
  const address = new URLSearchParams({ user: choices.user.name, gateway: choices.gateway.name, room: choices.room.name });
  history.replaceState(null, '', `/?${address}`);
  document.title = `${choices.user.username} · ${choices.room.name}`;
  at('door').hidden = true;
  at('chat').hidden = false;
  at('me').textContent = `${choices.user.username} on ${choices.gateway.name}`;
  session = new Session(choices);
  session.connect();
  at('text').focus();
}

function leave(reason) {
  session?.end();
  session = null;
  history.replaceState(null, '', '/');
  at('chat').hidden = true;
  at('door').hidden = false;
  tell('door-error', reason);
}

function tell(id, text) {
  at(id).textContent = text ?? '';
  at(id).hidden = !text;
}

// ---- a session: one person in one room, over as many connections as it takes ------------------------------------

class Session {
  constructor({ user, gateway, room }) {
    Object.assign(this, { user, gateway, room, socket: null, attempt: 0, delay: null, timers: new Map() });
    this.forget();
  }

  forget() {
    this.messages = new Set();
    this.online = new Map();
    this.typing = new Map();
    this.cursor = null;
    at('messages').replaceChildren();
  }

  after(name, wait, act) { // one timer of each name
    clearTimeout(this.timers.get(name));
    this.timers.set(name, setTimeout(act, wait));
  }

  async connect() {
    this.show('waiting', 'connecting');
    let token;
    try {
      ({ token } = await json('token', { user: this.user.id }));
    } catch (error) {
      tell('error', error.message);
      return this.again();
    }
    if (session !== this) return;
    const socket = new WebSocket(`${this.gateway.url}/ws/community/room/${this.room.id}/?connection_token=${encodeURIComponent(token)}`);
    this.socket = socket;
    socket.addEventListener('open', () => this.beat());
    socket.addEventListener('message', ({ data }) => this.receive(JSON.parse(data)));
    socket.addEventListener('close', ({ code, reason }) => this.closed(socket, code, reason));
  }

  closed(socket, code, reason) {
    if (session !== this || socket !== this.socket) return;
    clearTimeout(this.timers.get('ping'));
    if (FINAL_CODES.has(code)) return leave(`The gateway said goodbye: ${reason || 'no reason given'} (${code}).`);
    this.again(code);
  }

  again(code) { // back off with jitter, unless the gateway named a delay
    this.attempt += 1;
    const backoff = Math.min(30_000, 500 * 2 ** this.attempt) * (0.5 + Math.random() / 2);
    const wait = this.delay ?? backoff;
    this.delay = null;
    this.show('waiting', `back in ${Math.ceil(wait / 1000)} s${code ? ` (${code})` : ''}`);
    this.after('connect', wait, () => this.connect());
  }

  end() {
    this.timers.forEach(clearTimeout);
    this.socket?.close(1000);
  }

  beat() {
    this.send({ type: 'ping' });
    this.after('ping', PING_EVERY, () => this.beat());
  }

  send(frame) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  show(state, text) {
    at('status').dataset.state = state;
    at('status').textContent = text;
    at('send').disabled = state !== 'open';
  }

  receive(event) {
    this.events[event.event]?.call(this, event); // an event we do not know is for others
  }

  events = {
    room_state({ room, messages, onlineUsers, onlineCount, hasMore, cursor }) {
      this.forget();
      this.attempt = 0;
      this.show('open', 'connected');
      tell('error', null);
      at('room-name').textContent = room.name;
      at('room-about').textContent = `${room.description} · ${room.memberCount} members`;
      messages.forEach((message) => this.add(message));
      onlineUsers.forEach(({ userId, username }) => this.online.set(userId, username));
      this.showOnline(onlineCount);
      this.page(hasMore, cursor);
    },
    message_history({ messages, hasMore, cursor }) {
      const { scrollHeight, scrollTop } = at('scroll');
      const first = at('messages').firstChild;
      messages.forEach((message) => this.add(message, first));
      if (messages.length) at('scroll').scrollTop = scrollTop + at('scroll').scrollHeight - scrollHeight;
      this.page(hasMore, cursor);
    },
    new_message({ message }) {
      this.typing.delete(message.author.id);
      this.showTyping();
      this.add(message);
      if (!document.hidden) this.send({ type: 'read_receipt', message_id: message.id });
    },
    user_joined({ userId, username }) {
      this.online.set(userId, username);
      this.showOnline();
    },
    user_left({ userId }) {
      this.online.delete(userId);
      this.typing.delete(userId);
      this.showOnline();
      this.showTyping();
    },
    presence_diff({ joined, left, online }) {
      joined.forEach(({ userId, username }) => this.online.set(userId, username));
      left.forEach((user) => this.online.delete(user.userId ?? user));
      this.showOnline(online);
    },
    typing({ userId, username, isTyping }) {
      if (userId === String(this.user.id)) return;
      if (isTyping) this.typing.set(userId, username);
      else this.typing.delete(userId);
      this.after(`typing ${userId}`, TYPING_ENDS, () => { this.typing.delete(userId); this.showTyping(); });
      this.showTyping();
    },
    error({ message, retryAfter }) {
      tell('error', retryAfter ? `${message} (again in ${Math.ceil(retryAfter)} s)` : message);
      this.after('error', 6_000, () => tell('error', null));
    },
    reconnect({ delayMs }) {
      this.delay = delayMs;
    },
  };

  // ---- what is seen ----

  add(message, before = null) {
    if (this.messages.has(message.id)) return;
    this.messages.add(message.id);
    const scroll = at('scroll');
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
    const item = document.createElement('li');
    const [meta, name, time, text] = ['span', 'b', 'time', 'span'].map((tag) => document.createElement(tag));
    item.dataset.id = message.id;
    item.classList.toggle('mine', message.author.id === String(this.user.id));
    meta.className = 'meta';
    text.className = 'text';
    name.textContent = message.author.username;
    time.dateTime = message.createdAt;
    time.textContent = new Date(message.createdAt).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    text.textContent = message.content;
    meta.append(name, time);
    item.append(meta, text);
    at('messages').insertBefore(item, before);
    if (!before && atEnd) scroll.scrollTop = scroll.scrollHeight;
  }

  page(hasMore, cursor) {
    this.cursor = hasMore ? cursor : null;
    at('older').hidden = !this.cursor;
    at('older').disabled = false;
  }

  showOnline(count) {
    at('online-count').textContent = count ?? this.online.size;
    at('online').replaceChildren(...[...this.online.values()].sort().map((name) => {
      const item = document.createElement('li');
      item.textContent = name;
      return item;
    }));
  }

  showTyping() {
    const names = [...this.typing.values()];
    at('typing').textContent = names.length ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} typing…` : '';
  }

  // ---- what is said ----

  say(text) {
    this.stopTyping();
    return this.send({ type: 'send_message', content: text });
  }

  keyPressed() {
    const now = Date.now();
    if (now - (this.typed ?? 0) > TYPING_EVERY && this.send({ type: 'typing', is_typing: true })) this.typed = now;
    this.after('stop typing', TYPING_EVERY, () => this.stopTyping());
  }

  stopTyping() {
    if (this.typed) this.send({ type: 'typing', is_typing: false });
    this.typed = null;
    clearTimeout(this.timers.get('stop typing'));
  }

  older() {
    if (this.send({ type: 'request_history', cursor: this.cursor, limit: 50 })) at('older').disabled = true;
  }
}

at('door').addEventListener('submit', (event) => { event.preventDefault(); tell('door-error', null); enter(); });
at('leave').addEventListener('click', () => leave());
at('older').addEventListener('click', () => session?.older());
at('text').addEventListener('input', () => session?.keyPressed());
at('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  if (session?.say(at('text').value)) at('text').value = '';
});
open();
