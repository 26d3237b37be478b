import { describe, expect, test } from 'vitest';
import type { LogConfig } from '../../src/config/config.ts';
import type { RequestDetail } from '../../src/server/log/access-entry.ts';
import { type AccessLog, createAccessLog } from '../../src/server/log/access-log.ts';
import { createLogger } from '../../src/server/log/server-log.ts';
import { KeyRing } from '../../src/session/identity/key-ring.ts';
import { Tickets } from '../../src/session/identity/ticket.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { cpuTime } from '../cpu-time.ts';
import { hostileErrors } from '../guard/hostile-values.ts';

function written(config: LogConfig, use: (log: AccessLog) => void): string[] {
  const lines: string[] = [];
  use(createAccessLog(config, { write: line => lines.push(line) }, new FakeClock(Date.UTC(2026, 10, 2, 3, 4, 5))));
  return lines;
}

const facts = {
  clientAddress: '192.0.2.7',
  method: 'GET',
  target: '/shop?page=2',
  httpVersion: '1.1',
  user: 'alice',
  sid: 'abcdefghijklmnopqrstuv',
  referer: 'https://example.com/',
  userAgent: 'Mozilla/5.0',
};
const request = { ...facts, status: 200, bytesSent: 512, complete: true, durationMs: 3.5 };

describe('the combined access log', () => {
  test("writes Apache's line and the first 8 characters of the sid", () => {
    expect(written({ access: 'combined' }, log => log.request(request))).toEqual([
      '192.0.2.7 - alice [02/Nov/2026:03:04:05 +0000] "GET /shop?page=2 HTTP/1.1" 200 512 "https://example.com/" "Mozilla/5.0" abcdefgh\n',
    ]);
  });

  test('writes a dash for what is not known, and for an empty body', () => {
    const { clientAddress, method, target, httpVersion } = facts;
    const bare = {
      clientAddress,
      method,
      target,
      httpVersion,
      status: 204,
      bytesSent: 0,
      complete: true,
      durationMs: 1,
    };
    expect(written({ access: 'combined' }, log => log.request(bare))).toEqual([
      '192.0.2.7 - - [02/Nov/2026:03:04:05 +0000] "GET /shop?page=2 HTTP/1.1" 204 - "-" "-" -\n',
    ]);
  });

  test('writes one line when a socket opens and one with the close code when it closes', () => {
    const lines = written({ access: 'combined' }, log => {
      log.socketOpened({ ...facts, connectionId: 'c1' });
      log.socketClosed({ ...facts, connectionId: 'c1', closeCode: 1006, durationMs: 10, bytesSent: 99 });
    });
    expect(lines).toEqual([
      expect.stringContaining('"GET /shop?page=2 HTTP/1.1" 101 - '),
      expect.stringContaining('"CLOSE /shop?page=2 WebSocket/13" 1006 99 '),
    ]);
  });

  test('lets nothing from the network end the line or a field', () => {
    const lines = written({ access: 'combined' }, log =>
      log.request({
        ...request,
        user: 'eve "x"\n127.0.0.1 - admin',
        target: '/\r\nfake',
        userAgent: 'a" 200 "\u001b[31m\\\u0085\u2028',
      }),
    );
    expect(lines).toEqual([
      '192.0.2.7 - eve\\x20\\"x\\"\\x0a127.0.0.1\\x20-\\x20admin [02/Nov/2026:03:04:05 +0000] "GET /\\x0d\\x0afake HTTP/1.1" 200 512 ' +
        '"https://example.com/" "a\\" 200 \\"\\x1b[31m\\\\\\x85\\u2028" abcdefgh\n',
    ]);
  });
});

describe('the JSON access log', () => {
  test('writes one object a line, with the first 8 characters of the sid only', () => {
    const lines = written({ access: 'json' }, log => log.request({ ...request, userAgent: 'a\nb"' }));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^[^\n]+\n$/);
    expect(JSON.parse(lines[0]!)).toEqual({
      ...request,
      time: '2026-11-02T03:04:05.000Z',
      event: 'request',
      sid: 'abcdefgh',
      userAgent: 'a\nb"',
    });
  });

  test('has no control character and no other end of a line, as the log of the server has none', () => {
    const evil = 'a\u007f\u0085\u009b31m\u2028\u2029\u001b[2J';
    const lines = written({ access: 'json' }, log => log.request({ ...request, userAgent: evil }));
    createLogger({}, { write: line => lines.push(line) }).info({ user: evil }, evil);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
    for (const line of lines) expect(line).toMatch(/^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*\n$/);
    expect(lines.map(line => JSON.parse(line))).toMatchObject([{ userAgent: evil }, { user: evil, msg: evil }]);
  });

  test('keeps each character, and halves of one', () => {
    const characters = [...Array(0x2100).keys(), 0xd800, 0xdfff, 0xfffe].map(code => String.fromCharCode(code));
    const texts = ['😀', 'a\ud83d', ...characters];
    const lines = written({ access: 'json' }, log => {
      for (const userAgent of texts) log.request({ ...request, user: userAgent, userAgent });
    });
    expect(lines.map(line => JSON.parse(line).userAgent)).toEqual(texts);
    expect(lines.map(line => JSON.parse(line).user)).toEqual(texts);
    expect(lines.every(line => Buffer.from(line).toString() === line)).toBe(true);
  });

  test('leaves out what is not known, and keeps what is empty', () => {
    const { clientAddress, method, target, httpVersion } = facts;
    const bare = {
      clientAddress,
      method,
      target,
      httpVersion,
      status: 204,
      bytesSent: 0,
      complete: false,
      durationMs: 1,
    };
    const lines = written({ access: 'json' }, log => {
      log.request({ ...bare, user: undefined });
      log.request({ ...bare, user: '', referer: '', sid: '' });
    });
    const always = { ...bare, time: '2026-11-02T03:04:05.000Z', event: 'request' };
    expect(lines.map(line => JSON.parse(line))).toEqual([always, { ...always, user: '', referer: '', sid: '' }]);
  });

  test('tells the opening of a socket from its closing', () => {
    const lines = written({ access: 'json' }, log => {
      log.socketOpened({ ...facts, connectionId: 'c1' });
      log.socketClosed({ ...facts, connectionId: 'c1', closeCode: 1000, closeReason: 'bye', durationMs: 10 });
    });
    expect(lines.map(line => JSON.parse(line))).toEqual([
      expect.objectContaining({ event: 'socket-opened', connectionId: 'c1' }),
      expect.objectContaining({ event: 'socket-closed', connectionId: 'c1', closeCode: 1000, closeReason: 'bye' }),
    ]);
  });
});

test.each([
  ['json', 1, '03:04:05.001Z'],
  ['combined', 1_000, '03:04:06'],
  ['%t', 1_000, '03:04:06'],
  ['%{%T}t', 1_000, '03:04:06'],
  ['%{msec_frac}t', 1, '001'],
])('%s: the next line has the time of its own', (access, laterMs, time) => {
  const clock = new FakeClock(Date.UTC(2026, 10, 2, 3, 4, 5));
  const lines: string[] = [];
  const log = createAccessLog({ access }, { write: line => lines.push(line) }, clock);
  const entry = () => ({ ...request, detail: { startedAt: clock.now() } as RequestDetail });
  log.request(entry());
  clock.jump(clock.now() + laterMs);
  log.request(entry());
  clock.jump(clock.now() - laterMs);
  log.request(entry());
  expect(lines[1]).toContain(time);
  expect(lines[1]).not.toBe(lines[0]);
  expect(lines[2]).toBe(lines[0]);
});

test.each(['json', 'combined'] as const)(
  '%s: values of query parameters that look like secrets are not written',
  access => {
    const target = '/chat?room=1&access_token=hunter2&ticket=abc#x';
    const [line] = written({ access }, log =>
      log.request({ ...request, target, referer: `https://example.com${target}` }),
    );
    expect(line).not.toMatch(/hunter2|abc#/);
    expect(line!.match(/\/chat\?room=1&access_token=\*\*\*&ticket=\*\*\*#x/g)).toHaveLength(2);
  },
);

test.each([
  ['/a?next=/b?token=x&y=1', '/a?next=/b?token=***&y=1'],
  ['/a&token=x?y=1', '/a&token=***'],
  ['/a?b?token=x', '/a?b?token=***'],
  ['/a?token?b=x', '/a?token?b=***'],
  ['/tokens?page=2#key=x', '/tokens?page=2#key=***'],
  ['/a#token=x', '/a#token=***'],
  ['/a?%74oken=x&p%41ssw=y&%zz=1', '/a?%74oken=***&p%41ssw=***&%zz=1'],
  ['/a;%6asessionid=0A1B/b', '/a;%6asessionid=***/b'],
  ['http://alice:x@example.com/a?b=1', 'http://***@example.com/a?b=1'],
  ['http://example.com/a@b', 'http://example.com/a@b'],
  ['/shop;jsessionid=0A1B.t1/cart;v=1?a=1', '/shop;jsessionid=***/cart;v=1?a=1'],
  ['/in?next=/shop;jsessionid=0A1B&b=1', '/in?next=/shop;jsessionid=***&b=1'],
  ['/a?next=tokens=2', '/a?next=tokens=2'],
])('%s is written as %s', (target, expected) => {
  const [line] = written({ access: 'json' }, log => log.request({ ...request, target }));
  expect(JSON.parse(line!).target).toBe(expected);
});

test('a session ticket is written nowhere, wherever in a URL it is', () => {
  const ticket = new Tickets(new KeyRing(['k'.repeat(32)])).write({ sid: 's'.repeat(22), secret: 'x'.repeat(43) });
  const target = `/in%3Bholdfast=${ticket}?next=/cart;holdfast=${ticket}`;
  const [line] = written({ access: 'json' }, log => log.request({ ...request, target, referer: `http://a${target}` }));
  expect(line).not.toContain('xxx');
  expect(JSON.parse(line!).target).toBe('/in%3Bholdfast=v1.***?next=/cart;holdfast=v1.***');
});

test('neither is a ticket for a WebSocket, whatever its parameter is called', () => {
  const ticket = `holdfast-${'x'.repeat(43)}`;
  const target = `/socket?a=${ticket}&next=%2Fsocket%3Fticket%3D${ticket}`;
  const [line] = written({ access: 'json' }, log => log.request({ ...request, target, referer: `http://a${target}` }));
  expect(line).not.toContain('xxx');
  expect(JSON.parse(line!).target).toBe('/socket?a=holdfast-***&next=%2Fsocket%3Fticket%3Dholdfast-***');
});

test.each(['?key', '?sid=', 'key', '&key', '?', ';sid', ';', ';='])(
  'a URL that repeats %j costs no time to write',
  part => {
    const target = `/${part.repeat(4_000)}`;
    expect(cpuTime(() => written({ access: 'json' }, log => log.request({ ...request, target })))).toBeLessThan(500);
  },
);

test('off: writes nothing', () => {
  expect(written({ access: 'off' }, log => log.request(request))).toEqual([]);
});

describe('the log', () => {
  test('writes JSON from its level upwards, with the stack of an error', () => {
    const lines: string[] = [];
    const log = createLogger({ level: 'warn' }, { write: line => lines.push(line) });
    log.info({}, 'not this');
    log.warn({ sid: 'abcdefgh', err: new RangeError('broken') }, 'this');
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: 'warn',
      msg: 'this',
      sid: 'abcdefgh',
      err: { type: 'RangeError', message: 'broken', stack: expect.stringContaining('logging.test.ts') },
    });
  });

  test('has an error that cannot be changed or read', () => {
    const lines: string[] = [];
    const log = createLogger({}, { write: line => lines.push(line) });
    log.error({ err: Object.freeze(new RangeError('frozen')) }, 'frozen');
    for (const [name, make] of Object.entries(hostileErrors)) log.error({ err: make() }, name);
    expect(JSON.parse(lines[0]!).err).toEqual({
      type: 'RangeError',
      message: 'frozen',
      stack: expect.stringContaining('logging.test.ts'),
    });
    expect(lines.slice(1).map(line => JSON.parse(line).msg)).toEqual(Object.keys(hostileErrors));
  });
});
