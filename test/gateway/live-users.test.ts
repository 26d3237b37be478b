import { beforeEach, describe, expect, test } from 'vitest';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { LiveUsers, type UserSocket } from '../../src/gateway/live-users.ts';
import { Authentication } from '../../src/policy/auth/authentication.ts';
import type { Principal, RequestScheme } from '../../src/policy/auth/scheme.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Lines } from '../server/wires.ts';

let clock: FakeClock;
let users: LiveUsers;
let security: SecurityEvents;
/** What becomes of the socket of `open`. */
let events: unknown[];
beforeEach(() => {
  clock = new FakeClock();
  const logger = new Lines();
  security = new SecurityEvents(CalmLogger.over(logger, clock));
  users = new LiveUsers({ clock, logger, security });
  events = [];
});

const socket: UserSocket = {
  close: (code, reason) => void events.push(`${code} ${reason}`),
  onAuthExpiring: until => void events.push(until),
};

function open(changes: Partial<RequestScheme>, expiresAt: number): Principal {
  const scheme: RequestScheme = {
    ...{ name: 'api', isShownByRequest: true, places: [] },
    authenticate: () => ({ kind: 'absent' }),
    challenge: () => undefined,
    ...changes,
  };
  const authentication = new Authentication({ schemes: [scheme], security, route: '/socket' });
  const principal: Principal = { name: 'alice', roles: [], scheme: 'api', expiresAt };
  users.join(socket, principal, { authentication, sid: 's', address: '192.0.2.1' });
  return principal;
}

const shownElsewhere = (until: number) => users.extend('s', { scheme: 'api', name: 'alice', until, at: clock.now() });

describe('a socket whose user has shown fresh credentials to another process', () => {
  test('stays open until these end', async () => {
    open({}, clock.now() + 90_000);
    const until = clock.now() + 300_000;
    shownElsewhere(until);
    await clock.advance(299_000);
    expect(events).toEqual([until]);
    await clock.advance(1_000);
    expect(events).toEqual([until, '1008 authentication has expired']);
  });

  test('stays open until those end that it has shown here, where a service is asked again of these', async () => {
    const end = clock.now() + 90_000;
    const known = new Set<Principal>();
    known.add(open({ reviewEveryMs: 30_000, review: one => (known.has(one) ? one : undefined) }, end));
    shownElsewhere(clock.now() + 300_000);
    await clock.advance(89_000);
    expect(events).toEqual([end]);
    await clock.advance(1_000);
    expect(events).toEqual([end, '1008 authentication has expired']);
  });
});

test('an endpoint hears of each end, also of the one that a service names when it is asked again', async () => {
  const first = clock.now() + 70_000;
  const second = first + 120_000;
  open(
    { reviewEveryMs: 30_000, review: one => ({ ...one, expiresAt: clock.now() < first - 30_000 ? first : second }) },
    first,
  );
  await clock.advance(170_000);
  expect(events).toEqual([first, second]);
});
