import { defineEndpoint } from 'holdfast';

export const demo = defineEndpoint({
  path: '/demo',
  idleTimeout: '15s', // short, so that a dead peer is noticed soon
  heartbeat: '5s', // after this much silence we ping; a peer that lives answers, and stays
  // Pings of the application's own: the pong brings back what the ping carried.
  onMessage: connection => void connection.ping(String(performance.now())),
  onPong(connection, data) {
    const sentAt = Number(Buffer.from(data).toString());
    connection.send(`round trip: ${(performance.now() - sentAt).toFixed(1)} ms`);
  },
  // The pong is already on its way.
  onPing: (connection, data) => void connection.send(`your ping said "${Buffer.from(data)}"`),
});
