import { describe, expect, test } from 'vitest';
import { endToEndHeaders, foldNames, withoutOwned } from '../../src/http/hop-by-hop.ts';

describe('end-to-end headers', () => {
  test('are what is left without the headers of one connection, in order, with their case and repetitions', () => {
    const raw = [
      ...['Host', 'a', 'Connection', 'keep-alive', 'Keep-Alive', 'timeout=5', 'X-B', '1', 'TE', 'trailers', 'x-b', '2'],
      ...['Trailer', 'X-T', 'Transfer-Encoding', 'chunked', 'Upgrade', 'websocket', 'Proxy-Connection', 'keep-alive'],
      ...['PROXY-AUTHORIZATION', 'Basic x', 'proxy-anything', 'y', 'ACCEPT', '*/*'],
    ];
    expect(endToEndHeaders(raw)).toEqual(['Host', 'a', 'X-B', '1', 'x-b', '2', 'ACCEPT', '*/*']);
  });

  test('do not include what any Connection header names', () => {
    const raw = [
      'x-secret',
      '1',
      'Connection',
      'close, X-Secret ',
      'X-Other',
      '2',
      'connection',
      'x-third',
      'X-Third',
      '3',
    ];
    expect(endToEndHeaders(raw)).toEqual(['X-Other', '2']);
  });

  test('include Host and Content-Length even when Connection names them', () => {
    const raw = ['Connection', 'Host, Content-Length', 'Host', 'a', 'Content-Length', '3'];
    expect(endToEndHeaders(raw)).toEqual(['Host', 'a', 'Content-Length', '3']);
  });

  test('leave the given array alone', () => {
    const raw = ['Connection', 'close', 'A', '1'];
    endToEndHeaders(raw);
    expect(raw).toEqual(['Connection', 'close', 'A', '1']);
  });
});

describe('a header we own', () => {
  test.each(['X-Session-ID', 'x-session-id', 'X_Session_ID', 'X-Session_Id', 'X.Session.ID'])(
    'is removed as %s',
    name => {
      expect(withoutOwned(['A', '1', name, 'stolen', 'B', '2', name, 'again'], foldNames(['X-Session-ID']))).toEqual([
        'A',
        '1',
        'B',
        '2',
      ]);
    },
  );

  test.each(['X-Session-IDs', 'XSessionID', 'Session-ID', 'My-X-Session-ID'])('is not %s', name => {
    expect(withoutOwned([name, '1'], foldNames(['X-Session-ID']))).toEqual([name, '1']);
  });
});

test('a client cannot have the header that is set afterwards removed by naming it in Connection', () => {
  const raw = [
    'Connection',
    'Upgrade, X-Session-ID',
    'X-Session-ID',
    'stolen',
    'X_Session_ID',
    'stolen',
    'Cookie',
    'a=b',
  ];
  const passed = withoutOwned(endToEndHeaders(raw), foldNames(['X-Session-ID']));
  expect([...passed, 'X-Session-ID', 'ours']).toEqual(['Cookie', 'a=b', 'X-Session-ID', 'ours']);
});
