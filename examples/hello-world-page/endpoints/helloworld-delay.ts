import { setTimeout as delay } from 'node:timers/promises';
import { defineEndpoint } from 'holdfast';

// Exported is served: nothing registers it.
export const helloworldDelay = defineEndpoint({
  path: '/helloworld_delay.ws',
  async onMessage(connection, data) {
    await delay(500);
    connection.send(`Message "${data}" has been received by server.`);
  },
});
