import { describe, expect, test } from 'vitest';
import { parseLogFormat } from '../../src/http/log-format.ts';

const directive = (text: string) => parseLogFormat(text).find(item => typeof item !== 'string');

describe('a LogFormat', () => {
  test('is text and directives, with quotes and percent signs as Apache has them', () => {
    const items = parseLogFormat('%h \\"%r\\" 100%% %>s');
    expect(items.map(item => (typeof item === 'string' ? item : `<${item.name}>`))).toEqual([
      ...['<h>', ' "', '<r>', '" 100% ', '<s>'],
    ]);
  });

  test.each([
    ['%!200,304{Referer}i', { name: 'i', argument: 'Referer', isExcluded: true, statuses: new Set([200, 304]) }],
    ['%400,501{User-agent}i', { name: 'i', argument: 'User-agent', isExcluded: false, statuses: new Set([400, 501]) }],
    ['%{Referer}!200i', { name: 'i', argument: 'Referer', isExcluded: true, statuses: new Set([200]) }],
    ['%>s', { name: 's', argument: undefined, statuses: undefined }],
    ['%{ms}T', { name: 'T', argument: 'ms' }],
    ['%{begin:%d/%b/%Y:%T}t', { name: 't', argument: 'begin:%d/%b/%Y:%T' }],
    ['%{Digest}^ti', { name: '^ti', argument: 'Digest' }],
    ['%{SSL_PROTOCOL}x', { name: 'x', argument: 'SSL_PROTOCOL' }],
    ['%{bogus}P', { name: 'P', argument: 'bogus' }],
  ])('understands %s', (text, expected) => {
    expect(directive(text)).toMatchObject(expected);
  });

  test.each([
    ['%h %y', '"%y" at character 4 of the LogFormat is not a directive'],
    ['%h %', '"%" at character 4 of the LogFormat ends before its letter'],
    ['%{Referer', '"%{Referer" at character 1 of the LogFormat has a "{" that is not closed'],
    ['%d', 'is not a directive'],
    ['%g', 'is not a directive'],
    ['%Z', 'is not a directive'],
    ['%^xy', 'is not a directive'],
    ['%{PATH}e', 'the environment of a request is Apache'],
    ['%{note}n', 'notes are Apache'],
    ['%i', 'needs the name of a header'],
    ['%C', 'needs the name of a cookie'],
    ['%{SSL_CLIENT_KEY}x', 'SSL_PROTOCOL, SSL_CIPHER, SSL_TLS_SNI'],
    ['%{%Q}t', 'has "%Q", which is not understood in a time'],
    ['%{%}t', 'has "%"'],
  ])('refuses %s with its place and the reason', (text, message) => {
    expect(() => parseLogFormat(text)).toThrow(message);
  });
});
