import { expect, test } from 'vitest';
import { start } from '../examples/example-client.ts';
import { Visitor } from '../examples/visitor.ts';

test.each(['node-http', 'express', 'fastify', 'hono'])(
  'sessions-%s counts, signs in and out, and goes on after kill -9',
  async name => {
    const example = await start(`sessions-${name}`);
    const visitor = new Visitor(example);
    expect(await visitor.navigate()).toBe('visit 1 of a stranger\n');
    const stranger = visitor.cookie;

    const signedIn = await visitor.post('/sign-in', new URLSearchParams({ name: 'ann' }));
    expect([signedIn.status, signedIn.headers.get('location')]).toEqual([303, '/']);
    expect(visitor.cookie).not.toBe(stranger);
    expect(await visitor.navigate()).toBe('visit 2 of ann\n');

    // The cookie from before the login opens nothing, and makes no other session either while the login is fresh.
    const thief = new Visitor(example);
    thief.cookie = stranger;
    expect((await thief.call('GET', '/')).status).toBe(409);
    expect(await visitor.navigate()).toBe('visit 3 of ann\n');

    await example.kill();
    await example.start();
    expect(await visitor.navigate()).toBe('visit 4 of ann\n');

    expect((await visitor.post('/sign-out')).status).toBe(303);
    expect(await visitor.navigate()).toBe('visit 1 of a stranger\n');
  },
);
