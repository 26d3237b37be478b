import { expect, test } from 'vitest';
import { isConnectionSignIn, withoutConnectionSignIn } from '../../src/http/connection-sign-in.ts';

test.each([
  ...[
    'Negotiate',
    'NTLM TlRMTVNTUAAB',
    'ntlm',
    'Kerberos YIIg',
    'CredSSP TlRM',
    'NTLMSSP',
    'Nego2',
    'GSS-Negotiate',
    'SPNEGO',
  ],
  ...['Basic realm="a", Negotiate', 'Basic realm="a",NTLM', 'Digest a="b, NTLM", PKU2U x', 'Basic realm="a, NTLM'],
])('WWW-Authenticate: %s signs in a connection', value => {
  expect(isConnectionSignIn(['Date', 'now', 'WWW-AUTHENTICATE', value])).toBe(true);
});

test.each(['Basic realm="NTLM"', 'Bearer', 'Digest nonce="Negotiate"', 'Passport', 'Session', 'X-NTLM'])(
  'WWW-Authenticate: %s signs in one request',
  value => {
    expect(isConnectionSignIn(['WWW-Authenticate', value])).toBe(false);
  },
);

test.each([
  ['Negotiate, Basic realm="a"', 'Basic realm="a"'],
  ['Basic realm="a", NTLM', 'Basic realm="a"'],
  ['Negotiate YIIg==, Digest realm="a, NTLM b" , nonce = "c", CredSSP', 'Digest realm="a, NTLM b", nonce = "c"'],
  ['Bearer, Negotiate', 'Bearer'],
  ['Basic realm="\\", NTLM", charset="UTF-8"', 'Basic realm="\\", NTLM", charset="UTF-8"'],
  [', ,Basic realm="a",,Negotiate', 'Basic realm="a"'],
  ['NTLM, Other abc=', 'Other abc='],
])('of %s HTTP/2 is told %s', (value, left) => {
  expect(withoutConnectionSignIn(['A', '1', 'WWW-Authenticate', value, 'B', '2'])).toEqual([
    'A',
    '1',
    'WWW-Authenticate',
    left,
    'B',
    '2',
  ]);
});

test.each([
  [['WWW-Authenticate', 'Negotiate, NTLM']],
  [['WWW-Authenticate', 'Negotiate', 'WWW-Authenticate', 'CredSSP']],
  [['WWW-Authenticate', 'NTLM TlRMTVNTUAAB==']],
  [['WWW-Authenticate', 'Kerberos realm="a", b=c']],
  [['WWW-Authenticate', 'Other', 'Persistent-Auth', 'true']],
  [['Persistent-Auth', 'true']],
])('of %s nothing is left for HTTP/2', headers => {
  expect(withoutConnectionSignIn(headers)).toBeUndefined();
});

test('a sign-in by a scheme that nobody knows goes with its Persistent-Auth', () => {
  const headers = ['WWW-Authenticate', 'Other, Basic realm="a"', 'Persistent-Auth', 'true'];
  expect(withoutConnectionSignIn(headers)).toEqual(['WWW-Authenticate', 'Basic realm="a"']);
});
