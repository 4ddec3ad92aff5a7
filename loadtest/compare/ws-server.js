// A plain room server on Node with `ws`: no login, no database, no history. What is said in a room goes to all in it.
//
//   node ws-server.js PORT          clients connect to /NAME-OF-THE-ROOM

const { WebSocketServer } = require('ws');

const rooms = new Map();
const server = new WebSocketServer({ port: Number(process.argv[2]), host: '127.0.0.1', perMessageDeflate: false });
server.on('connection', (socket, request) => {
  const name = request.url;
  if (!rooms.has(name)) rooms.set(name, new Set());
  const room = rooms.get(name);
  room.add(socket);
  socket.on('close', () => room.delete(socket));
  socket.on('message', (data) => {
    const text = data.toString();
    for (const other of room) other.send(text);
  });
  socket.send('{"event":"room_state"}');
});
server.on('listening', () => console.log('listening'));
