import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import { type HostileValue, hostileValues } from '../guard/hostile-values.ts';
import { Served, type Wire, wires } from '../guard/served.ts';
import type { Order, Outcome } from '../guard/values-server.ts';
import { Http2Client } from '../server/http2-client.ts';

const LONGEST_WAIT_MS = 5_000;
const MAX_CONTROL_PAYLOAD = 125;

const serverModule = new URL('../guard/values-server.ts', import.meta.url).href;

let server: Served;
let control: WebSocketClient;
let http2: Http2Client[];
/** By path and wire; those of `publish` are connections of another server in the same process. */
let victims: Record<string, Record<Wire, WebSocketClient>>;
let bystanders: WebSocketClient[];

beforeAll(async () => {
  server = await Served.module(
    `import { valuesConfig } from '${serverModule}';\nexport default await valuesConfig(listen);\n`,
  );
  const main = { 'http/1': server.url('http/1'), tls: server.url('tls'), 'http/2': server.url('http/2') };
  const [plain, secure] = (await (await fetch(`${main['http/1']}/publisher`)).json()) as [string, string];
  const publisher = { 'http/1': plain, tls: secure, 'http/2': secure };
  control = await testClient(`${main['http/1']}/control`);
  http2 = [await Http2Client.connect(main['http/2']), await Http2Client.connect(secure)];
  bystanders = Object.values(await connections(main, '/echo', http2[0]!));
  victims = {
    '/plain': await connections(main, '/plain', http2[0]!),
    '/compressed': await connections(main, '/compressed', http2[0]!),
    'publish /plain': await connections(publisher, '/plain', http2[1]!, 'publish '),
    'publish /compressed': await connections(publisher, '/compressed', http2[1]!, 'publish '),
  };
});

afterAll(async () => {
  for (const client of http2 ?? []) client[Symbol.dispose]();
  await server?.[Symbol.asyncDispose]();
});

async function connections(
  urls: Record<Wire, string>,
  path: string,
  over: Http2Client,
  prefix = '',
): Promise<Record<Wire, WebSocketClient>> {
  const compression = path === '/compressed' ? { threshold: 1, contextTakeover: true } : undefined;
  const to = (wire: Wire) => `${path}?name=${encodeURIComponent(`${prefix}${path} ${wire}`)}`;
  return {
    'http/1': await testClient(urls['http/1'] + to('http/1'), compression && { compression }),
    tls: await testClient(urls.tls + to('tls'), {
      tls: { rejectUnauthorized: false },
      ...(compression && { compression }),
    }),
    'http/2': await over.webSocket(to('http/2'), {}, compression),
  };
}

async function order(what: Order): Promise<Outcome> {
  control.send(JSON.stringify(what));
  return JSON.parse((await next(control)) as string) as Outcome;
}

async function next(client: WebSocketClient): Promise<string | Buffer> {
  const silence = new AbortController();
  const timeout = sleep(LONGEST_WAIT_MS, 'silent', { ref: false, signal: silence.signal }).catch(
    () => 'silent' as const,
  );
  const message = await Promise.race([client.receive(), timeout]);
  silence.abort();
  if (message === 'silent') throw new Error('nothing came');
  if (message === undefined) throw new Error(`the connection ended with ${(await client.closed).code}`);
  return message;
}

/** The connection echoes what it is sent: it has what it needs, and nothing else comes first. */
async function echoes(client: WebSocketClient): Promise<void> {
  const bytes = Buffer.from(Uint8Array.from({ length: 300 }, (_, i) => i));
  const text = 'bystander é€𝄞';
  client.send(text);
  client.send(bytes);
  expect(await next(client)).toBe(text);
  expect(await next(client)).toEqual(bytes);
}

async function receives(client: WebSocketClient, { sent }: HostileValue): Promise<void> {
  if (sent === undefined) return;
  const message = await next(client);
  expect(typeof message).toBe(typeof sent === 'string' ? 'string' : 'object');
  if (typeof sent === 'string' ? message !== sent : !(message as Buffer).equals(sent))
    throw new Error(`${message.length} of ${sent.length} came, or others than were sent`);
}

function expectRefused(outcome: Outcome, method: string, { named }: HostileValue): void {
  expectThrown(outcome, 'TypeError', named!);
  // What was tried, and what to do instead.
  expect(outcome).toMatchObject({
    threw: { message: expect.stringMatching(`^${method.split(',')[0]}: .*; pass|; await`) },
  });
}

function expectThrown(outcome: Outcome, name: string, part = ''): void {
  expect(outcome).toEqual({ threw: { name, message: expect.stringContaining(part) } });
}

/** Runs `act` for every value, and says all that went wrong. Others must not notice anything of any. */
async function forEachValue(act: (name: string, value: HostileValue) => Promise<void>): Promise<void> {
  const problems: string[] = [];
  for (const [name, value] of Object.entries(hostileValues)) {
    try {
      await Promise.all([act(name, value), ...bystanders.map(echoes)]);
      await Promise.all(bystanders.map(echoes));
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message.split('\n')[0]}`);
      if (/nothing came|connection ended/.test(String(error))) {
        problems.push('nothing works any more');
        break;
      }
    }
  }
  expect(problems).toEqual([]);
}

interface Victim {
  /** Its name, for orders. */
  readonly victim: string;
  readonly client: WebSocketClient;
}

/**
 * The same for every connection: over each wire, with compression and without. They must go on as if nothing had
 * happened.
 */
function forEachVictim(act: (name: string, value: HostileValue, victim: Victim) => Promise<void>): Promise<void> {
  const all = ['/plain', '/compressed'].flatMap(path =>
    wires.map(wire => ({ victim: `${path} ${wire}`, client: victims[path]![wire] })),
  );
  return forEachValue(async (name, value) => {
    await Promise.all(
      all.map(async victim => {
        await act(name, value, victim);
        await echoes(victim.client);
      }),
    );
  });
}

const isText = ({ sent }: HostileValue) => typeof sent === 'string';
const sentBytes = ({ sent }: HostileValue) => Buffer.from((sent ?? '') as string);

test.each(['send', 'stream', 'stream, first'])(
  '`%s` takes text and bytes as they are, and refuses what is neither for that call alone',
  method =>
    forEachVictim(async (name, value, { victim, client }) => {
      const outcome = await order({ method, value: name, victim });
      if (value.sent === undefined) expectRefused(outcome, method, value);
      else expect(outcome).toHaveProperty('returned');
      await receives(client, value);
    }),
);

test('a message in fragments goes on after a value that is neither text nor bytes', () =>
  forEachVictim(async (name, value, { victim, client }) => {
    const outcome = await order({ method: 'stream, last', value: name, victim });
    if (value.sent === undefined) expectRefused(outcome, 'stream', value);
    else if (isText(value)) await receives(client, value);
    expect(await next(client)).toBe('');
  }));

test.each(['ping', 'pong'])(
  '`%s` takes at most 125 bytes, and refuses what is neither text nor bytes for that call alone',
  method =>
    forEachVictim(async (name, value, { victim }) => {
      const outcome = await order({ method, value: name, victim });
      const payload = sentBytes(value);
      // Without a payload it is empty.
      if (value.sent === undefined && name !== 'undefined') expectRefused(outcome, method, value);
      else if (payload.length > MAX_CONTROL_PAYLOAD) expectThrown(outcome, 'RangeError');
      else expect(outcome).toEqual({ returned: method === 'ping' ? payload.toString('base64') : true });
    }),
);

test('`close` with a code or a reason that cannot be sent leaves the connection open', () =>
  forEachVictim(async (name, value, { victim }) => {
    if (name === 'undefined') return;
    const code = await order({ method: 'close with the code', value: name, victim });
    expectThrown(code, value.named === 'a number' ? 'RangeError' : 'TypeError');
    if (isText(value) && sentBytes(value).length < MAX_CONTROL_PAYLOAD) return;
    const reason = await order({ method: 'close with the reason', value: name, victim });
    expectThrown(reason, isText(value) ? 'RangeError' : 'TypeError');
  }));

test.each(['subscribe', 'unsubscribe'])('`%s` refuses what is not a text', method =>
  forEachVictim(async (name, value, { victim }) => {
    const outcome = await order({ method, value: name, victim });
    if (isText(value)) expect(outcome).toEqual({});
    else expectThrown(outcome, 'TypeError');
  }),
);

describe.each([
  { method: 'broadcast', paths: ['/plain'] },
  { method: 'broadcast', paths: ['/compressed'] },
  { method: 'publish', paths: ['publish /plain', 'publish /compressed'] },
])('`$method` to $paths', ({ method, paths }) => {
  test('reaches all with text and bytes as they are, and none with what is neither', async () => {
    const clients = paths.flatMap(path => wires.map(wire => victims[path]![wire]));
    await forEachValue(async (name, value) => {
      const outcome = await order({ method, value: name, path: paths[0]! });
      if (value.sent === undefined) expectRefused(outcome, method, value);
      else expect(outcome).toEqual({ returned: { sent: clients.length, skipped: 0, failed: 0 } });
      for (const client of clients) {
        await receives(client, value);
        await echoes(client);
      }
    });
  });
});

test.each(['broadcast', 'publish'])(
  '`%s` refuses what is neither text nor bytes also when nobody would get it',
  async method => {
    await forEachValue(async (name, value) => {
      const outcome = await order({ method: `${method} to nobody`, value: name });
      if (value.sent === undefined) expectRefused(outcome, method, value);
      else expect(outcome).toEqual({ returned: { sent: 0, skipped: 0, failed: 0 } });
    });
  },
);

test('`publish` refuses a topic that is not a text', async () => {
  await forEachValue(async (name, value) => {
    const outcome = await order({ method: 'publish to the topic', value: name });
    if (isText(value)) expect(outcome).toHaveProperty('returned');
    else expectThrown(outcome, 'TypeError');
  });
});

test('whatever `broadcast` gets as an exception concerns that call alone', async () => {
  await forEachValue(async name => {
    await order({ method: 'broadcast with the exception', value: name });
  });
});
