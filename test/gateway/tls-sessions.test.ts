import { expect, test } from 'vitest';
import { type TlsSession, TlsSessions } from '../../src/gateway/connection/tls-sessions.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

const named = (name: string, provenAt = 0) => ({ data: Buffer.from(name), provenAt });
const nameOf = (session: TlsSession | undefined) => session && String(session.data);

test('each session is used once while there is another, the newest first', () => {
  const sessions = new TlsSessions(new FakeClock());
  expect(sessions.take()).toBeUndefined();
  for (const name of ['a', 'b']) sessions.add(named(name));
  expect([1, 2, 3, 4].map(() => nameOf(sessions.take()))).toEqual(['b', 'a', 'a', 'a']);
  sessions.add(named('c'));
  expect(nameOf(sessions.take())).toBe('c');
});

test('no more than sixteen are kept', () => {
  const sessions = new TlsSessions(new FakeClock());
  for (let i = 0; i < 100; i++) sessions.add(named(`${i}`));
  const taken = Array.from({ length: 18 }, () => nameOf(sessions.take()));
  expect([taken[0], taken[15], taken[16], taken[17]]).toEqual(['99', '84', '84', '84']);
});

test('after a handshake that has failed none is used', () => {
  const sessions = new TlsSessions(new FakeClock());
  sessions.add(named('a'));
  sessions.take();
  sessions.add(named('b'));
  sessions.clear();
  expect(sessions.take()).toBeUndefined();
});

test('none is used an hour after the server has shown its certificate, whenever it was given', async () => {
  const clock = new FakeClock();
  const sessions = new TlsSessions(clock);
  await clock.advance(1_000);
  for (const [name, provenAt] of [
    ['a', 0],
    ['b', 1_000],
    ['c', 0],
  ] as const)
    sessions.add(named(name, provenAt));
  await clock.advance(3_599_000);
  expect([1, 2].map(() => nameOf(sessions.take()))).toEqual(['b', 'b']);
  sessions.add(named('e', 0));
  expect(nameOf(sessions.take())).toBe('b');
  await clock.advance(1_000);
  expect(sessions.take()).toBeUndefined();
  sessions.add(named('d', 3_000_000));
  expect(nameOf(sessions.take())).toBe('d');
});
