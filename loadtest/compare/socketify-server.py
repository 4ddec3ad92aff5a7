"""A room server on uWebSockets, by way of socketify: no login, no database, no history. The floor: less cannot be done.

socketify-server.py PORT          clients connect to /room/NAME
"""

import sys

from socketify import App, OpCode


def upgrade(response, request, context):
    name = request.get_parameter(0)
    response.upgrade(
        request.get_header("sec-websocket-key"), request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"), context, name,
    )


def opened(socket):
    socket.subscribe(socket.get_user_data())
    socket.send('{"event":"room_state"}', OpCode.TEXT)


def said(socket, message, opcode):
    room = socket.get_user_data()
    socket.publish(room, message, opcode)  # to the others
    socket.send(message, opcode)


app = App()
app.ws("/room/:name", {"compression": 0, "idle_timeout": 0, "upgrade": upgrade, "open": opened, "message": said})
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: print("listening", flush=True))
app.run()
