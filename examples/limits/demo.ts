import { defineEndpoint } from 'holdfast';

export const demo = defineEndpoint({
  path: '/demo',
  idleTimeout: '15s',
  heartbeat: false, // without it a ping after 10 s would keep a quiet peer that lives
  maxMessageSize: 1024,
  maxConnections: 1000,
  onMessage: (connection, data) => void connection.send(data),
  onTimeout: connection => void connection.send('15 seconds without a word: good bye'),
});
