import { describe, expect, test } from 'vitest';
import { SessionCookie } from '../../src/session/identity/cookie.ts';
import { createSecret, createSid } from '../../src/session/identity/ids.ts';
import { KeyRing } from '../../src/session/identity/key-ring.ts';
import { Tickets } from '../../src/session/identity/ticket.ts';

const keys = new KeyRing(['k'.repeat(32)]);
const cookie = new SessionCookie(new Tickets(keys), { name: 'sid' });

function ticket() {
  return { sid: createSid(), secret: createSecret() };
}
function pair(setCookie: string): string {
  return setCookie.split(';')[0]!;
}

describe('session cookie', () => {
  test('reads back what it wrote', () => {
    const mine = ticket();
    expect(cookie.read(`other=1; ${pair(cookie.write(mine, true))}; more=2`)).toMatchObject([mine]);
  });

  test('has the agreed form and flags', () => {
    expect(cookie.write(ticket(), true)).toMatch(
      /^sid=v1\.[\w-]{22}\.[\w-]{43}\.[\w-]{8}\.[\w-]{43}; Path=\/; Secure; HttpOnly; SameSite=Lax$/,
    );
    expect(cookie.write(ticket(), false)).not.toContain('Secure');
    expect(cookie.clear(false)).toBe('sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax');
  });

  test('refuses every cookie that differs in one character', () => {
    const value = pair(cookie.write(ticket(), false)).slice('sid='.length);
    for (let index = 0; index < value.length; index++) {
      const other = value[index] === 'A' ? 'B' : 'A';
      const forged = value.slice(0, index) + other + value.slice(index + 1);
      expect(cookie.read(`sid=${forged}`), `character ${index}`).toEqual([]);
    }
  });

  test.each(['', 'v1', 'v1....', 'x'.repeat(10_000), 'v1.'.repeat(50)])('refuses %#: no cookie of ours', value => {
    expect(cookie.read(`sid=${value}`)).toEqual([]);
  });

  test('refuses a cookie that is cut short or longer than its form', () => {
    const value = pair(cookie.write(ticket(), false));
    expect(cookie.read(value.slice(0, -1))).toEqual([]);
    expect(cookie.read(`${value}A`)).toEqual([]);
  });

  test('reads cookies of an older key and writes with the newest', () => {
    const mine = ticket();
    const rotated = new SessionCookie(new Tickets(new KeyRing(['n'.repeat(32), 'k'.repeat(32)])), { name: 'sid' });
    expect(rotated.read(pair(cookie.write(mine, false)))).toMatchObject([mine]);
    expect(cookie.read(pair(rotated.write(mine, false)))).toEqual([]);
  });

  test('tries the first four of its name and takes equal ones for one', () => {
    const values = Array.from({ length: 5 }, () => pair(cookie.write(ticket(), false)));
    expect(cookie.read(values.join('; '))).toHaveLength(4);
    expect(cookie.read([values[0], values[0]].join('; '))).toHaveLength(1);
    expect(cookie.read(['sid=a', 'sid=b', 'sid=c', 'sid=d', values[0]].join('; '))).toEqual([]);
  });

  test('takes the name __Host-holdfast only when every listener is TLS and neither domain nor path is set', () => {
    const nameWith = (options: ConstructorParameters<typeof SessionCookie>[1]) =>
      new SessionCookie(new Tickets(keys), options).name;
    expect(nameWith({ everyListenerIsSecure: true })).toBe('__Host-holdfast');
    expect(nameWith({ everyListenerIsSecure: true, path: '/app' })).toBe('holdfast');
    expect(nameWith({ everyListenerIsSecure: true, domain: 'example.com' })).toBe('holdfast');
    expect(nameWith({ everyListenerIsSecure: false })).toBe('holdfast');
    expect(nameWith({ everyListenerIsSecure: true, name: 'SESSIONID' })).toBe('SESSIONID');
  });

  test.each([
    { name: 'a b' },
    { name: 'a=b' },
    { name: '' },
    { name: '__Host-x', path: '/app' },
    { name: '__host-x', domain: 'a.example' },
    { domain: 'a b' },
    { path: 'a' },
  ])('refuses %j, which no browser would keep, before the first login', options => {
    expect(() => new SessionCookie(new Tickets(keys), options)).toThrow(TypeError);
  });

  test.each([
    { name: '__Host-x' },
    { name: '__Host-x', path: '/' },
    { name: '__Secure-x' },
    { domain: 'example.com' },
    { path: '/a' },
    { sameSite: 'none' as const },
  ])('takes %j', options => {
    expect(new SessionCookie(new Tickets(keys), options).name).toBe(options.name ?? 'holdfast');
  });

  test('lasts until the browser is closed, or as long as the session may live', () => {
    const write = (lifetimeMs: number, persistent?: boolean) =>
      new SessionCookie(new Tickets(keys), { name: 'sid', ...(persistent && { persistent }) }, lifetimeMs).write(
        { sid: createSid(), secret: createSecret() },
        false,
      );
    expect(write(60_000)).not.toContain('Max-Age');
    expect(write(90_500, true)).toContain('; Max-Age=91;');
    expect(write(Number.POSITIVE_INFINITY, true)).toContain(`; Max-Age=${400 * 86_400};`);
  });
});

describe('a partitioned session cookie', () => {
  const partitioned = new SessionCookie(new Tickets(keys), { name: 'sid', sameSite: 'none', partitioned: true });
  const PLACE = 'Path=/; Secure; HttpOnly; SameSite=None; Partitioned';

  test('says so whenever it is set, and when it is deleted, with its nonce', () => {
    expect(partitioned.write(ticket(), false)).toMatch(new RegExp(`^sid=v1\\S+; ${PLACE}$`));
    expect(partitioned.clear(false)).toBe(`sid=; Max-Age=0; ${PLACE}`);
    expect(partitioned.writeNonce('n1', 5, false)).toBe(`sid-new=n1; Max-Age=5; ${PLACE}`);
  });

  test.each([{}, { sameSite: 'lax' as const }, { sameSite: 'strict' as const }])(
    'is refused with %j, since it would come with no page of another site',
    options => {
      expect(() => new SessionCookie(new Tickets(keys), { ...options, partitioned: true })).toThrow(/sameSite "none"/);
    },
  );

  test('takes back what was set before it, where several have come and all are of its sessions', () => {
    const [mine, other] = [ticket(), ticket()];
    const header = (...tickets: ReturnType<typeof ticket>[]) =>
      tickets.map(one => pair(partitioned.write(one, true))).join('; ');
    const isOurs = (sid: string) => sid === mine.sid;
    const former = 'sid=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=None';
    expect(partitioned.clearFormer(header(mine, { ...mine, secret: other.secret }), isOurs, true)).toEqual([former]);
    expect(partitioned.clearFormer(header(mine), isOurs, true)).toEqual([]);
    expect(partitioned.clearFormer(header(mine, other), isOurs, true)).toEqual([]);
    const ofDomain = new SessionCookie(new Tickets(keys), {
      ...{ name: 'sid', sameSite: 'none', partitioned: true, domain: 'shop.test' },
    });
    expect(ofDomain.clearFormer(header(mine, mine), isOurs, true)).toEqual([
      `${former}; Partitioned`,
      'sid=; Max-Age=0; Domain=shop.test; Path=/; Secure; HttpOnly; SameSite=None',
      former,
    ]);
  });
});
