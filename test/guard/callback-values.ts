import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import { Http2Client } from '../server/http2-client.ts';
import { anything, hostileValues } from './hostile-values.ts';
import { Served, type Wire, wires } from './served.ts';

const LONGEST_WAIT_MS = 10_000;
/** Of these at a time. */
const BATCH = 20;
/**
 * Declares the tests: whatever a callback throws, returns or passes concerns its own connection at most.
 *
 * @param everySoMany How many of the values are tried over each wire: 1 is all of them, 2 every other one.
 */
export function testCallbackValues(everySoMany: Readonly<Record<Wire, number>>): void {
  let server: Served;
  let http2: Http2Client;
  let bystanders: WebSocketClient[];

  beforeAll(async () => {
    const module = new URL('./callback-values-server.ts', import.meta.url).href;
    server = await Served.module(
      `import { callbackValuesConfig } from '${module}';\nexport default callbackValuesConfig(listen);\n`,
    );
    http2 = await Http2Client.connect(server.url('http/2'));
    bystanders = [await connect('http/1', '/echo'), await connect('tls', '/echo'), await connect('http/2', '/echo')];
  });

  afterAll(async () => {
    http2?.[Symbol.dispose]();
    await server?.[Symbol.asyncDispose]();
  });

  function connect(wire: Wire, path: string): Promise<WebSocketClient> {
    const headers = { origin: server.url(wire) };
    return wire === 'http/2'
      ? http2.webSocket(path, headers)
      : testClient(server.url(wire) + path, { headers, tls: { rejectUnauthorized: false } });
  }

  /** The status and the body, or that there was no answer. */
  function get(wire: Wire, path: string): Promise<string> {
    const headers = { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' };
    if (wire === 'http/2')
      return http2.get(path, headers).then(
        ({ status, body }) => `${status} ${body}`,
        () => 'cut off',
      );
    const { promise, resolve } = Promise.withResolvers<string>();
    const ask = (wire === 'tls' ? requestTls : request)(server.url(wire) + path, {
      headers,
      rejectUnauthorized: false,
    });
    ask.on('response', answer => {
      let body = '';
      answer.setEncoding('utf8').on('data', text => {
        body += text;
      });
      answer.on('end', () => resolve(`${answer.statusCode} ${body}`)).on('error', () => resolve('cut off'));
    });
    ask.on('error', () => resolve('cut off')).end();
    return promise;
  }

  async function within<T>(what: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('nothing came')), LONGEST_WAIT_MS);
    });
    return Promise.race([what, silence]).finally(() => clearTimeout(timer));
  }

  async function echoes(client: WebSocketClient): Promise<void> {
    client.send('bystander');
    expect(await within(client.receive())).toBe('bystander');
  }

  /** Lets `act` happen for every value over every wire, and says all that went wrong. */
  async function forEverything(
    how: string,
    act: (wire: Wire, query: string, value: string) => Promise<unknown>,
    values: object = anything,
  ): Promise<void> {
    const problems: string[] = [];
    for (const wire of wires) {
      const names = Object.keys(values).filter((_, i) => (i + how.length) % everySoMany[wire] === 0);
      for (let i = 0; i < names.length && problems.length < 5; i += BATCH) {
        await Promise.all(
          names.slice(i, i + BATCH).map(async name => {
            try {
              await within(act(wire, `?how=${encodeURIComponent(how)}&value=${encodeURIComponent(name)}`, name));
            } catch (error) {
              problems.push(`${name} over ${wire}: ${(error as Error).message.split('\n')[0]}`);
            }
          }),
        );
        await Promise.all(bystanders.map(echoes)).catch(error => problems.push(`others: ${(error as Error).message}`));
      }
    }
    expect(problems).toEqual([]);
    expect(server.isAlive).toBe(true);
  }

  /** The close code, after a message and a ping; or the status of the refusal. */
  async function outcomeOf(wire: Wire, query: string): Promise<number | string> {
    let client: WebSocketClient;
    try {
      client = await connect(wire, `/socket${query}`);
    } catch (error) {
      const { status, message } = error as Error & { status?: number };
      const answered = /answered (\d+)/.exec(message);
      return status ?? (answered ? Number(answered[1]) : message);
    }
    client.send('go');
    // When it does not come, the connection has closed.
    if (await client.ping()) client.close(1000);
    return (await client.closed).code;
  }

  test.each([
    { how: 'onOpen throws' },
    { how: 'onOpen rejects' },
    { how: 'onMessage throws' },
    { how: 'onMessage rejects' },
    { how: 'onPing throws' },
  ])('whatever `$how` closes its own connection with 1011', ({ how }) =>
    forEverything(how, async (wire, query) => {
      // It may have been closed by us before the promise was rejected.
      expect(how.endsWith('rejects') ? [1000, 1011] : [1011]).toContain(await outcomeOf(wire, query));
    }),
  );

  test.each([
    { how: 'onMessage returns' },
    { how: 'onClose throws' },
    { how: 'onClose rejects' },
    { how: 'onClose returns' },
  ])('whatever `$how` concerns its own connection at most', ({ how }) =>
    forEverything(how, async (wire, query) => {
      expect(how === 'onMessage returns' ? [1000, 1011] : [1000]).toContain(await outcomeOf(wire, query));
    }),
  );

  test.each([{ how: 'accept throws' }, { how: 'accept rejects' }, { how: 'accept refuses with the status' }])(
    'whatever `$how` is answered with 500',
    ({ how }) =>
      forEverything(how, async (wire, query) => {
        expect(await outcomeOf(wire, query)).toBe(500);
      }),
  );

  test.each([
    { how: 'accept returns' },
    { how: 'accept refuses with the body' },
    { how: 'accept refuses with the header' },
    { how: 'accept refuses with the headers' },
    { how: 'accept adds the header' },
    { how: 'accept adds the headers' },
    { how: 'accept chooses the subprotocol' },
    { how: 'accept gives the data' },
  ])('whatever `$how` is answered, and concerns its own handshake alone', ({ how }) =>
    forEverything(how, async (wire, query, value) => {
      const outcome = await outcomeOf(wire, query);
      expect([1000, 400, 403, 500]).toContain(outcome);
      if (how.endsWith('the body'))
        expect(outcome).toBe(
          ['an empty text', 'a text', 'half a surrogate pair', 'undefined'].includes(value) ? 400 : 500,
        );
    }),
  );

  test.each([
    { how: 'fetch throws' },
    { how: 'fetch rejects' },
    { how: 'the body fails with' },
    { how: 'the status is' },
  ])('whatever `$how` is answered with 500', ({ how }) =>
    forEverything(how, async (wire, query) => {
      expect(await get(wire, `/fetch${query}`)).toMatch(/^500 Internal Server Error/);
    }),
  );

  test.each([
    { how: 'the body yields', rest: '' },
    { how: 'the body yields first', rest: 'rest' },
    { how: 'the body yields later', rest: 'rest' },
  ])('where `$how` bytes or text they are sent as they are, and nothing else is', ({ how, rest }) =>
    forEverything(how, async (wire, query, name) => {
      const { sent } = hostileValues[name] ?? {};
      const answer = await get(wire, `/fetch${query}`);
      const first = how.endsWith('later') ? 'first' : '';
      if (sent === undefined) expect(answer).toMatch(/^500 Internal Server Error|^cut off|^200 (?:first)?$/);
      else expect(answer).toBe(`200 ${first}${Buffer.from(sent as string).toString()}${rest}`);
    }),
  );

  test.each([
    { how: 'the body is' },
    { how: 'the reader of the body answers' },
    { how: 'the status text is' },
    { how: 'the headers have' },
  ])('whatever `$how` concerns its own answer alone', ({ how }) =>
    forEverything(how, async (wire, query, name) => {
      // A body that never ends is not what is tried here.
      if (how === 'the body is' && name === 'a ReadableStream') return;
      await get(wire, `/fetch${query}`);
    }),
  );

  test.each([
    { how: 'session.set' },
    { how: 'session.set, name' },
    { how: 'session.get' },
    { how: 'session.has' },
    { how: 'session.delete' },
    { how: 'session.update' },
    { how: 'session.update, change' },
    { how: 'session.scope' },
    { how: 'session.idleTimeoutMs' },
    { how: 'session.renew' },
    { how: 'session.renew, owner' },
    { how: 'session.renew, name' },
    { how: 'session.invalidate' },
  ])('whatever `$how` gets is taken, or refused with an error for that call alone', ({ how }) =>
    forEverything(how, async (wire, query) => {
      expect(await get(wire, `/session${query}`)).toMatch(
        /^200 "(?:taken|TypeError |Error |HoldfastError ERR_SESSION_\w+)"$/,
      );
    }),
  );
}
