import { expect, test } from 'vitest';
import { parseSessionControl } from '../../src/gateway/backend-session/control-header.ts';

const alice = (...roles: string[]) => ({ action: 'renew', owner: { name: 'alice', roles } });

test.each([
  ['end', { action: 'end' }],
  [' renew ', { action: 'renew' }],
  ['renew;user=alice', alice()],
  ['renew ; user=alice ;  roles=user', alice('user')],
  ['renew; roles="user, admin,,user"; user="alice"', alice('user', 'admin')],
  ['renew; user=alice; roles=""', alice()],
  ['renew; user=42', { action: 'renew', owner: { name: '42', roles: [] } }],
  [
    'renew; user="a \\"b\\" \\\\ c; roles=admin"',
    { action: 'renew', owner: { name: 'a "b" \\ c; roles=admin', roles: [] } },
  ],
  ['renew; user=%"J%c3%BCrgen %22x%22"', { action: 'renew', owner: { name: 'Jürgen "x"', roles: [] } }],
  ['renew; persistent', { action: 'renew', persistent: true }],
  ['renew;persistent=?1;user=alice', { ...alice(), persistent: true }],
  ['renew; user=alice; persistent=?0; roles=user', { ...alice('user'), persistent: false }],
  [
    'renew; user=alice; persistent; idle-timeout=1209600; absolute-timeout=7776000',
    { ...alice(), persistent: true, idleTimeoutMs: 1_209_600_000, absoluteTimeoutMs: 7_776_000_000 },
  ],
  // What is not a display string is taken letter for letter.
  ['renew; user="%61dmin"', { action: 'renew', owner: { name: '%61dmin', roles: [] } }],
  ['renew; user=%61dmin', { action: 'renew', owner: { name: '%61dmin', roles: [] } }],
])('%j is understood', (value, control) => {
  expect(parseSessionControl(value)).toEqual(control);
});

test.each([
  ...[
    '',
    'RENEW',
    'login',
    'renew;',
    'renew; user',
    'renew; user=',
    'renew; user=""',
    'renew user=alice',
    'renew, end',
  ],
  ...['end; user=alice', 'renew; roles=admin', 'renew; user=alice; role=admin', 'renew; user = alice', 'end;'],
  ...[
    'renew; user="alice',
    'renew; user="a\\b"',
    'renew; user=a@b',
    'renew; user="Jürgen"',
    'renew; user=%"%ff"',
    'renew; user=%"%c"',
  ],
  ...['renew; persistent=true', 'renew; persistent=1', 'renew; persistent=', 'renew; persistent; persistent=?0'],
  ...['renew; user=alice; idle-timeout', 'renew; user=alice; idle-timeout=0', 'renew; user=alice; idle-timeout=-1'],
  ...['renew; idle-timeout=1.5', 'renew; absolute-timeout="60"', 'renew; absolute-timeout=14d', 'end; persistent'],
  // A name with a quote in it, by somebody who would like to be more than they are.
  'renew; user="x"; roles="admin"; roles="user"',
  'renew; user="x"; user="admin"; roles="user"',
])('%j is not, and the reason repeats none of it', value => {
  const reason = parseSessionControl(value);
  expect(reason).toEqual(expect.any(String));
  expect(reason).not.toMatch(/alice|admin|Jürgen/);
});
