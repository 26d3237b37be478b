import { expect, test } from 'vitest';
import { TlsSessions } from '../../src/gateway/connection/tls-sessions.ts';

const named = (name: string) => Buffer.from(name);

test('each session is used once while there is another, the newest first', () => {
  const sessions = new TlsSessions();
  expect(sessions.take()).toBeUndefined();
  for (const name of ['a', 'b']) sessions.add(named(name));
  expect([1, 2, 3, 4].map(() => String(sessions.take()))).toEqual(['b', 'a', 'a', 'a']);
  sessions.add(named('c'));
  expect(String(sessions.take())).toBe('c');
});

test('no more than sixteen are kept', () => {
  const sessions = new TlsSessions();
  for (let i = 0; i < 100; i++) sessions.add(named(`${i}`));
  const taken = Array.from({ length: 18 }, () => String(sessions.take()));
  expect([taken[0], taken[15], taken[16], taken[17]]).toEqual(['99', '84', '84', '84']);
});

test('after a handshake that has failed none is used', () => {
  const sessions = new TlsSessions();
  sessions.add(named('a'));
  sessions.take();
  sessions.add(named('b'));
  sessions.clear();
  expect(sessions.take()).toBeUndefined();
});
