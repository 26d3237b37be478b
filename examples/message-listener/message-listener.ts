import { CloseCode, defineEndpoint } from 'holdfast';

export const messageListener = defineEndpoint({
  path: '/ws/*',
  idleTimeout: -1,
  onMessage(connection, data) {
    // Sends never throw: false means that the peer has gone, or has left more than `maxBufferedAmount` unread.
    if (!connection.send(`Message "${data}" has been received by server.`)) connection.close(CloseCode.goingAway);
  },
});
