import { beforeEach, describe, expect, test } from 'vitest';
import type { Session } from '../../src/session/session.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { cpuTime } from '../cpu-time.ts';
import { cookieOf, createSite, type Site } from './fixture.ts';

type Data = Session<Record<string, unknown>>;

let site: Site;
beforeEach(() => {
  site = createSite(new MemoryStore(), { maxSessionBytes: 10_000 });
});

async function open(cookie?: string) {
  const binding = site.request(cookie);
  return { binding, session: (await binding.open()) as Data };
}

/** Sets attributes of `name.length + 4` bytes each until the session is full. @returns how many there was room for. */
function fill(session: Data, nameOf: (index: number) => string): number {
  for (let index = 0; ; index++) {
    try {
      session.set(nameOf(index), 'x');
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_SESSION_TOO_LARGE' });
      return index;
    }
  }
}

describe('many attributes in one request', () => {
  test('take time in proportion to their number', async () => {
    site = createSite(new MemoryStore());
    const { session } = await open();
    const took = cpuTime(() => {
      for (let index = 0; index < 50_000; index++) session.set(`attribute ${index}`, index);
    });
    expect(took).toBeLessThan(2_000);
  });

  test('count with their names, before they are committed and after it', async () => {
    const nameOf = (index: number) => `${index}`.padStart(96, '-');
    const { binding, session } = await open();
    expect(fill(session, nameOf)).toBe(100);
    await binding.commit();
    const again = await open(cookieOf(binding));
    expect(() => again.session.set('x', 1)).toThrow(expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }));
    again.session.set(nameOf(0), 'y'); // in place of what was there
    again.session.delete(nameOf(1));
    again.session.delete(nameOf(2));
    expect(fill(again.session, index => nameOf(index + 200))).toBe(2);
    again.session.delete(nameOf(3));
    again.session.delete(nameOf(200));
    await again.binding.commit();
    expect(fill(again.session, index => nameOf(index + 300))).toBe(2);
  });

  test('count together with what the store has got from others meanwhile', async () => {
    const { binding, session } = await open();
    session.set('a', 'x'.repeat(4_000));
    await binding.commit();
    const cookie = cookieOf(binding);
    const [one, two] = [await open(cookie), await open(cookie)];
    one.session.set('b', 'x'.repeat(4_000));
    await one.binding.commit();
    two.session.set('c', 1);
    await two.session.update('d', () => 1);
    const three = await open(cookie);
    expect(() => three.session.set('e', 'x'.repeat(2_000))).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }),
    );
    three.session.set('e', 'x'.repeat(1_900));
  });
});
